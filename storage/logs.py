"""The runner's log of a job, in chunks."""

from storage.database import Database
from storage.values import Claim, LogPart

#: A log is cut after so many bytes.
LOG_CAP_BYTES = 4 * 1024**2


class Logs:
    """The logs of every job."""

    def __init__(self, database: Database, *, cap_bytes: int = LOG_CAP_BYTES) -> None:
        self._database = database
        self._cap_bytes = cap_bytes

    def append(self, claim: Claim, content: bytes) -> bool:
        """Add to the log under the fence; past the cap one line says that it was cut."""
        raise NotImplementedError

    def read(self, tenant: str, job_id: str, *, offset: int = 0, limit: int = 1024**2) -> LogPart:
        """From a byte on; raises `NotFound`."""
        raise NotImplementedError
