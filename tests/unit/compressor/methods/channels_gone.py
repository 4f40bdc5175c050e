"""What tests of pruned channels share."""

from collections.abc import Sequence

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.counting import count_macs
from contract.report import NoticeCode
from contract.value import Json


class Notes:
    """What a step has said."""

    def __init__(self) -> None:
        self.details: dict[str, Json] = {}
        self.notices: dict[NoticeCode, str] = {}

    def context(self) -> Context:
        return Context(record=self.details.__setitem__, notice=self.notices.__setitem__)


def by_macs(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """A machine whose time is exactly the multiply-accumulates."""
    return tuple(float(count_macs(one.module, one.input_shape).total) for one in candidates)
