"""What Prometheus reads."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from storage.jobs import Jobs
from storage.outbox import Outbox


class Metrics:
    """The counters of one process, and the gauges that the database knows."""

    def __init__(self, *, jobs: Jobs, outbox: Outbox, workers_alive: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "modelpress_http_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "modelpress_http_request_seconds", "Time to answer a request.", ["route"], registry=self._registry
        )
        self._uploaded = Counter("modelpress_uploaded_bytes", "Bytes of accepted uploads.", registry=self._registry)
        self._registry.register(_Queue(jobs, outbox, workers_alive))

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def uploaded(self, size_bytes: int) -> None:
        """Count an upload."""
        self._uploaded.inc(size_bytes)

    def text(self) -> bytes:
        """Everything in the text format of Prometheus."""
        return generate_latest(self._registry)


class _Queue(Collector):
    """Read from the database when somebody asks."""

    def __init__(self, jobs: Jobs, outbox: Outbox, workers_alive: Callable[[], int]) -> None:
        self._jobs, self._outbox, self._workers_alive = jobs, outbox, workers_alive

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        states = GaugeMetricFamily("modelpress_jobs", "Jobs by state.", labels=["state"])
        for state, count in self._jobs.count_by_state().items():
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("modelpress_rings_waiting", "Rings not yet sent.", value=self._outbox.waiting())
        yield GaugeMetricFamily("modelpress_workers_alive", "Workers alive.", value=self._workers_alive())

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is asked of the database when the collector is registered."""
        return iter(())
