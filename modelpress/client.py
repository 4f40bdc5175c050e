"""The service, from Python."""

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import httpx
from pydantic import ValidationError

from contract.artifact import Artifact
from contract.dataset import Dataset, DatasetFormat
from contract.failures import Failure, IdempotencyKeyInFlight, InternalError, NotFound, Problem, revive
from contract.job import Event, Job
from contract.model import Model, ModelFormat
from contract.pages import EventList, JobList
from contract.report import Report
from contract.value import Value
from contract.worker import Capabilities

V = TypeVar("V", bound=Value)

_PIECE = 1024**2
#: How long one call of the service may keep us waiting for a job's end, in seconds.
_WAIT = 20
#: Answers after which the same call may succeed later.
_PASSING = frozenset({429, 502, 503, 504})
_SUFFIXES = {".pt": ModelFormat.PT, ".pth": ModelFormat.PT, ".safetensors": ModelFormat.SAFETENSORS}


class Unreachable(Exception):
    """The service does not answer."""


class Client:
    """A client of one service. Calls raise the failures of `contract.failures` that the service answers.

    What can be repeated without harm is repeated while the service is away, for `patience` seconds; a POST bears an
    Idempotency-Key, so that it never counts twice.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        patience: float = 120.0,
    ) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # --- Models and datasets

    def create_model(self, *, architecture: Mapping[str, Any], **said: Any) -> Model:
        """Say what a model is; `said` is the rest of the creation body."""
        return self._post(Model, "/v1/models", {"architecture": dict(architecture), **said})

    def upload_model(self, path: Path | str, *, architecture: Mapping[str, Any], **said: Any) -> Model:
        """Create a model and send its weights: safetensors, or a zip-format state_dict (.pt, .pth)."""
        path = Path(path)
        said.setdefault("format", _SUFFIXES.get(path.suffix, ModelFormat.SAFETENSORS).value)
        created = self.create_model(architecture=architecture, **{"name": path.name, **said})
        return self._put(Model, created.links["content"], path)

    def upload_dataset(self, path: Path | str, **said: Any) -> Dataset:
        """Create a dataset and send its file: a zip of class folders, or npz."""
        path = Path(path)
        guess = DatasetFormat.NPZ if path.suffix == ".npz" else DatasetFormat.IMAGE_FOLDER_ZIP
        body = {"name": path.name, "format": guess.value, **said}
        created = self._post(Dataset, "/v1/datasets", body)
        return self._put(Dataset, created.links["content"], path)

    def delete_model(self, model_id: str) -> None:
        """Delete a model that no open job needs."""
        self._delete(f"/v1/models/{model_id}")

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset that no open job needs."""
        self._delete(f"/v1/datasets/{dataset_id}")

    # --- Jobs

    def submit(self, spec: Mapping[str, Any]) -> Job:
        """Post a job."""
        return self._post(Job, "/v1/jobs", dict(spec))

    def job(self, job_id: str) -> Job:
        """A job as it stands now."""
        return Job.model_validate_json(self._call("GET", f"/v1/jobs/{job_id}").content)

    def jobs(self, **only: str) -> tuple[Job, ...]:
        """The newest jobs; `only` is what `GET /v1/jobs` filters by, such as `state="failed"`."""
        return JobList.model_validate_json(self._call("GET", "/v1/jobs", params=only).content).data

    def wait(self, job_id: str, *, watch: Callable[[Job], None] | None = None, timeout: float | None = None) -> Job:
        """The job as it stands at its end, or after `timeout` seconds; `watch` sees it on the way.

        Survives a service that goes away and comes back.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT if end is None else max(0.0, end - time.monotonic())
            wait = min(1 if watch else _WAIT, int(left))
            answer = self._call("GET", f"/v1/jobs/{job_id}", headers={"Prefer": f"wait={wait}"})
            job = Job.model_validate_json(answer.content)
            if watch is not None:
                watch(job)
            if job.done or left <= 0:
                return job

    def cancel(self, job_id: str) -> Job:
        """Stop a job."""
        return self._post(Job, f"/v1/jobs/{job_id}/cancel", None)

    def retry(self, job_id: str) -> Job:
        """A new job with the same spec."""
        return self._post(Job, f"/v1/jobs/{job_id}/retry", None)

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What has happened to a job so far, past a number."""
        while True:
            answer = self._call("GET", f"/v1/jobs/{job_id}/events", params={"after": after})
            page = EventList.model_validate_json(answer.content)
            if not page.data:
                return
            yield from page.data
            after = page.next

    def log(self, job_id: str) -> str:
        """The log of the process that ran the job."""
        parts, offset = [], 0
        while part := self._call("GET", f"/v1/jobs/{job_id}/logs", params={"offset": offset}):
            parts.append(part.content)
            if not part.content:
                break
            offset = int(part.headers["X-Next-Offset"])
        return b"".join(parts).decode("utf-8", "replace")

    def report(self, job_id: str) -> Report:
        """The figures of a job that has ended."""
        return Report.model_validate_json(self._call("GET", f"/v1/jobs/{job_id}/report").content)

    def download(self, job_id: str, folder: Path | str) -> list[Path]:
        """Fetch every file of a job into `folder`, checked against its SHA-256; returns where they are."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return [self._fetch(artifact, folder) for artifact in self.job(job_id).artifacts]

    def capabilities(self) -> Capabilities:
        """What can be asked of the service now."""
        return Capabilities.model_validate_json(self._call("GET", "/v1/capabilities").content)

    # --- How calls are made

    def _fetch(self, artifact: Artifact, folder: Path) -> Path:
        target, digest = folder / Path(artifact.filename).name, hashlib.sha256()
        partial = target.with_name(target.name + ".part")
        with self._http.stream("GET", artifact.links["content"]) as answer, partial.open("wb") as file:
            if answer.is_error:
                answer.read()
                raise _failure(answer)
            for piece in answer.iter_bytes(_PIECE):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != artifact.sha256:
            partial.unlink()
            raise InternalError(f"{artifact.filename} did not arrive as it was stored.")
        return partial.replace(target)

    def _put(self, kind: type[V], url: str, path: Path) -> V:
        def send() -> httpx.Response:
            headers = {"Content-Length": str(path.stat().st_size), "Repr-Digest": _digest_field(path)}
            return self._http.put(url, content=_pieces(path), headers=headers)

        return kind.model_validate_json(self._patiently(send).content)

    def _post(self, kind: type[V], url: str, body: object) -> V:
        headers = {"Idempotency-Key": uuid4().hex}
        answer = self._call("POST", url, json=body, headers=headers)
        return kind.model_validate_json(answer.content)

    def _delete(self, url: str) -> None:
        tries = 0

        def send() -> httpx.Response:
            nonlocal tries
            tries += 1
            return self._http.delete(url)

        try:
            self._patiently(send)
        except NotFound:
            # An earlier try whose answer was lost may have done it.
            if tries == 1:
                raise

    def _call(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self._patiently(lambda: self._http.request(method, url, **options))

    def _patiently(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        pause = 0.1
        while True:
            try:
                answer = send()
            except httpx.TransportError as error:
                if time.monotonic() + pause > deadline:
                    raise Unreachable(f"{self._http.base_url} does not answer.") from error
            else:
                if not _passes(answer) or time.monotonic() + pause > deadline:
                    return _checked(answer)
                pause = max(pause, _retry_after(answer))
            time.sleep(pause)
            pause = min(5.0, pause * 2)


def _passes(answer: httpx.Response) -> bool:
    """Whether the same call may succeed later."""
    if answer.status_code == IdempotencyKeyInFlight.status:
        # A try whose connection broke may still be at work, or have died with its process.
        return isinstance(_failure(answer), IdempotencyKeyInFlight)
    return answer.status_code in _PASSING


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise _failure(answer)
    return answer


def _failure(answer: httpx.Response) -> Failure:
    try:
        return revive(Problem.model_validate_json(answer.content))
    except ValidationError:
        return InternalError(f"The service answered {answer.status_code} without a reason.")


def _retry_after(answer: httpx.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return min(30.0, float(value)) if value.isdigit() else 0.0


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _digest_field(path: Path) -> str:
    """The `Repr-Digest` field (RFC 9530) of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return f"sha-256=:{b64encode(digest).decode()}:"
