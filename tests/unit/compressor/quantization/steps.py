"""Contexts for quantizing steps, which remember what they were told."""

from dataclasses import dataclass, field, replace

from compressor.candidate import Candidate
from compressor.context import Context
from contract.report import NoticeCode
from contract.value import Json
from tests.unit.compressor.networks import images_for


@dataclass
class Told:
    """What a step recorded and what it warned of."""

    records: dict[str, Json] = field(default_factory=dict)
    notices: dict[NoticeCode, str] = field(default_factory=dict)

    def context(self, context: Context | None = None) -> Context:
        """A context that tells it here."""
        return replace(context or Context(), record=self.records.__setitem__, notice=self.notices.__setitem__)


def with_images(candidate: Candidate, count: int = 32) -> Context:
    """A context with calibration images."""
    return Context(calibration=images_for(candidate, count))
