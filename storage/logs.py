"""The runner's log of a job, in chunks."""

from sqlalchemy import Connection, func, insert, select, update

from contract.failures import NotFound
from storage.database import Database
from storage.schema import jobs, log_chunks
from storage.transitions import held
from storage.values import Claim, LogPart

#: A log is cut after so many bytes.
LOG_CAP_BYTES = 4 * 1024**2


class Logs:
    """The logs of every job; each goes on from attempt to attempt."""

    def __init__(self, database: Database, *, cap_bytes: int = LOG_CAP_BYTES) -> None:
        self._database = database
        self._cap_bytes = cap_bytes

    def append(self, claim: Claim, content: bytes) -> bool:
        """Add to the log under the fence; past the cap one line says that it was cut."""
        with self._database.write() as connection:
            size = connection.execute(
                select(jobs.c.log_bytes).where(held(claim)).with_for_update()
            ).scalar_one_or_none()
            if size is None:
                return False
            kept = self._fitting(size, content)
            if kept:
                _append(connection, claim.job_id, kept, start=size)
        return True

    def read(self, tenant: str, job_id: str, *, offset: int = 0, limit: int = 1024**2) -> LogPart:
        """At most `limit` bytes from `offset` on; raises `NotFound`."""
        with self._database.read() as connection:
            size = _size(connection, tenant, job_id)
            start = min(offset, size)
            content = _stretch(connection, job_id, start, min(size, start + limit))
        return LogPart(content, next_offset=start + len(content))

    def _fitting(self, size: int, content: bytes) -> bytes:
        room = self._cap_bytes - size
        if len(content) <= room:
            return content
        if room < 0:
            return b""
        # The line goes past the cap, and so tells the next append that it has been said.
        return content[:room] + f"\n[the log is cut after {self._cap_bytes} bytes]\n".encode()


def _append(connection: Connection, job_id: str, content: bytes, *, start: int) -> None:
    connection.execute(insert(log_chunks).values(job_id=job_id, start=start, content=content))
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(log_bytes=start + len(content)))


def _size(connection: Connection, tenant: str, job_id: str) -> int:
    query = select(jobs.c.log_bytes).where(jobs.c.id == job_id, jobs.c.tenant == tenant)
    size: int | None = connection.execute(query).scalar_one_or_none()
    if size is None:
        raise NotFound("There is no job under this id.")
    return size


def _stretch(connection: Connection, job_id: str, start: int, end: int) -> bytes:
    mine = log_chunks.c.job_id == job_id
    first = select(func.max(log_chunks.c.start)).where(mine, log_chunks.c.start <= start).scalar_subquery()
    query = select(log_chunks).where(mine, log_chunks.c.start >= first, log_chunks.c.start < end)
    rows = connection.execute(query.order_by(log_chunks.c.start)).all()
    if not rows:
        return b""
    skipped = start - rows[0].start
    return b"".join(row.content for row in rows)[skipped : skipped + end - start]
