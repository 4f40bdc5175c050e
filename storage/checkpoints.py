"""Where attempts left off, so that the next one need not start anew."""

from contract.value import Json
from storage.database import Database
from storage.values import Blob, Claim


class Checkpoints:
    """The newest checkpoint of each job; the claim brings it as `resume`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, claim: Claim, blob: Blob, *, code_version: str, position: dict[str, Json]) -> bool:
        """Put this one in the place of the older ones, under the fence."""
        raise NotImplementedError
