"""Stores what a job has made: bytes first, to their content address; what refers to them comes after."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import WorkerError
from storage.blobs import Blobs
from storage.logs import Logs
from storage.values import Blob, Claim

_CHUNK_BYTES = 1024**2


def keep_file(blobs: Blobs, claim: Claim, path: Path) -> Blob:
    """Store a file that the runner left; raises `WorkerError` where it is no file, and `StorageFull`."""
    # The runner chose what lies there: a link would have us publish any file, a pipe would keep us waiting.
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise WorkerError(f"The job left no file {path.name}.") from error
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise WorkerError(f"The job left {path.name}, which is no file.")
        return _keep(blobs, claim, iter(lambda: file.read(_CHUNK_BYTES), b""))


def keep_artifact(blobs: Blobs, claim: Claim, file: ArtifactFile, *, out: Path) -> ArtifactFile:
    """Store one file to be delivered; raises `WorkerError` where it is not the one that was proven."""
    if file.filename in (".", "..") or "/" in file.filename or "\0" in file.filename:
        raise WorkerError("The job names a file outside of its folder.")
    blob = keep_file(blobs, claim, out / file.filename)
    if (blob.sha256, blob.size_bytes) != (file.sha256, file.size_bytes):
        raise WorkerError(f"{file.filename} changed after it was proven.")
    return file


def keep_log(blobs: Blobs, claim: Claim, logs: Logs, *, partial: bool) -> ArtifactFile:
    """Store the log of the job as it stands."""
    blob = _keep(blobs, claim, _whole_log(logs, claim))
    return ArtifactFile(
        filename="job.log",
        format=ArtifactFormat.LOG,
        media_type="text/plain; charset=utf-8",
        size_bytes=blob.size_bytes,
        sha256=blob.sha256,
        partial=partial,
    )


def _keep(blobs: Blobs, claim: Claim, chunks: Iterator[bytes]) -> Blob:
    with blobs.writer(claim.tenant) as writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit()


def _whole_log(logs: Logs, claim: Claim) -> Iterator[bytes]:
    offset = 0
    while (part := logs.read(claim.tenant, claim.job_id, offset=offset)).content:
        yield part.content
        offset = part.next_offset
