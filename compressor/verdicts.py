"""Whether a job's constraints hold."""

from collections.abc import Sequence

from contract.job import Verdict
from contract.report import Measurement, PairedDrop, Report
from contract.spec import Constraint, Metric


def verdicts(constraints: Sequence[Constraint], report: Report) -> tuple[Verdict, ...]:
    """What the report says to each constraint; a figure that was not measured does not meet any."""
    return tuple(
        _verdict(constraint, _actual(constraint, report.baseline, report.compressed, report.drop))
        for constraint in constraints
    )


def may_hold(
    constraints: Sequence[Constraint], baseline: Measurement, after: Measurement, drop: PairedDrop | None
) -> bool:
    """Whether a state may meet every constraint, as far as it has been measured without a file to run.

    Its bytes and its latency are known only of the file, so they speak against nothing here.
    """
    known = [c for c in constraints if c.metric not in (Metric.LATENCY, Metric.SIZE_BYTES)]
    return all(_verdict(constraint, _actual(constraint, baseline, after, drop)).met for constraint in known)


def _verdict(constraint: Constraint, actual: float | None) -> Verdict:
    holds = actual is not None and (
        actual >= constraint.value if constraint.kind == "min" else actual <= constraint.value
    )
    return Verdict(**constraint.model_dump(), actual=actual, met=holds)


def _actual(constraint: Constraint, before: Measurement, after: Measurement, drop: PairedDrop | None) -> float | None:
    if constraint.kind == "max_drop":
        return _drop(constraint, before, drop)
    now, was = _figure(constraint.metric, after), _figure(constraint.metric, before)
    if constraint.kind != "max_ratio" or now is None:
        return now
    return now / was if was else None


def _drop(constraint: Constraint, before: Measurement, drop: PairedDrop | None) -> float | None:
    if drop is None or before.accuracy is None:
        return None
    if constraint.unit == "absolute":
        return drop.value
    return drop.value / before.accuracy.value if before.accuracy.value else None


def _figure(metric: Metric, of: Measurement) -> float | None:
    match metric:
        case Metric.ACCURACY:
            return of.accuracy.value if of.accuracy else None
        case Metric.LATENCY:
            return of.latency.p50_ms if of.latency else None
        case Metric.SIZE_BYTES:
            return of.size_bytes
        case Metric.PARAMETERS:
            return of.parameters
        case Metric.MACS:
            return of.macs
