"""Where attempts left off, so that the next one need not start anew."""

from sqlalchemy import Connection, Insert, insert, select
from sqlalchemy.exc import IntegrityError

from contract.failures import Unavailable
from contract.value import Json
from storage.columns import now
from storage.database import Database
from storage.schema import checkpoints, jobs
from storage.transitions import drop_checkpoint, held
from storage.values import Blob, Claim


class Checkpoints:
    """The newest checkpoint of each job; the claim brings it as `resume`, the end of the job drops it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, claim: Claim, blob: Blob, *, code_version: str, position: dict[str, Json]) -> bool:
        """Put this one in the place of the older ones, under the fence.

        Raises `Unavailable` where its bytes were collected meanwhile.
        """
        content = {"tenant": claim.tenant, "sha256": blob.sha256, "size_bytes": blob.size_bytes}
        origin = {"spec_hash": claim.spec_hash, "code_version": code_version, "created_at": now()}
        fresh = insert(checkpoints).values(job_id=claim.job_id, position=position, **content, **origin)
        try:
            with self._database.write() as connection:
                return _replace(connection, claim, fresh)
        except IntegrityError as error:
            raise Unavailable("Storing took so long that the place was given up.", retry_after=1) from error


def _replace(connection: Connection, claim: Claim, fresh: Insert) -> bool:
    if connection.execute(select(jobs.c.id).where(held(claim)).with_for_update()).one_or_none() is None:
        return False
    drop_checkpoint(connection, claim.job_id)
    connection.execute(fresh)
    return True
