"""How far a job is: kept whenever it is said, told as an event at most once a second."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, or_, select, update

from contract.job import EventKind, Progress
from storage.columns import now, seconds_from_now
from storage.schema import jobs
from storage.transitions import change, held, tell
from storage.values import Claim

#: Between two events of progress.
PAUSE_SECONDS = 1

#: Of a job that begins anew: what the last attempt kept and had not told is nobody's to tell any more.
NO_PROGRESS: Mapping[str, Any] = MappingProxyType({"progress": None, "progress_told": True})


def keep_progress(connection: Connection, claim: Claim, progress: Progress) -> bool:
    """Keep it, and tell it where the last event is long enough ago; false where the claim is no longer the newest."""
    told_at = jobs.c.progress_told_at
    due = or_(told_at.is_(None), told_at <= seconds_from_now(-PAUSE_SECONDS)).label("due")
    row = connection.execute(select(jobs.c.progress, due).where(held(claim)).with_for_update()).one_or_none()
    if row is None:
        return False
    # What is said late, or again after an interruption, does not set the bar back.
    fraction = progress.fraction if row.progress is None else max(progress.fraction, row.progress.fraction)
    kept = progress.model_copy(update={"fraction": fraction})
    connection.execute(update(jobs).where(held(claim)).values(progress=kept, progress_told=False))
    if row.due:
        tell_progress(connection, claim)
    return True


def tell_progress(connection: Connection, claim: Claim) -> None:
    """Write the event of the progress that is kept."""
    row = change(connection, held(claim), progress_told_at=now(), progress_told=True)
    if row is not None:
        tell(connection, row, EventKind.PROGRESS, row.progress.model_dump(mode="json"))
