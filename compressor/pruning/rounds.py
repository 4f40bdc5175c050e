"""Pruning in rounds, with training in between where it is asked for, which goes on where it was interrupted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import TypeAdapter
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context, TrainingState
from compressor.layers import weighted_modules
from compressor.measure.counting import count_macs, count_parameters
from compressor.models.edits import Edit, apply_edits
from compressor.pruning.latency import Reached
from compressor.training.phase import Phase
from compressor.training.recovery import recover
from compressor.training.state import masks_of
from contract.methods import Recovery

_ROUND, _EDITS, _SO_FAR = "round", "edits", "so_far"
_ALL_EDITS: TypeAdapter[tuple[Edit, ...]] = TypeAdapter(tuple[Edit, ...])


@dataclass(frozen=True)
class Start:
    """What a network was before a step."""

    macs: int
    parameters: int
    #: Outputs of each layer.
    widths: Mapping[str, int]
    #: Heads of each attention.
    heads: Mapping[str, int]

    @classmethod
    def of(cls, candidate: Candidate) -> Self:
        """Count it."""
        macs = count_macs(candidate.module, candidate.input_shape).total
        return cls(macs, count_parameters(candidate.module), _widths(candidate.module), _heads(candidate.module))

    def channels(self, module: nn.Module) -> dict[str, tuple[int, int]]:
        """Outputs of each layer, before and in this network."""
        after = _widths(module)
        return {name: (before, after[name]) for name, before in self.widths.items()}

    def heads_lost(self, module: nn.Module) -> dict[str, tuple[int, int]]:
        """Heads before and in this network, of each attention that has lost some."""
        after = _heads(module)
        return {name: (before, after[name]) for name, before in self.heads.items() if after[name] < before}


def _widths(module: nn.Module) -> dict[str, int]:
    layers = weighted_modules(module).items()
    widths = {name: getattr(layer, "out_channels", getattr(layer, "out_features", None)) for name, layer in layers}
    return {name: width for name, width in widths.items() if width is not None}


def _heads(module: nn.Module) -> dict[str, int]:
    counts = ((name, getattr(part, "num_heads", None)) for name, part in module.named_modules())
    return {name: count for name, count in counts if isinstance(count, int)}


@dataclass(frozen=True)
class SoFar:
    """What a round must know of the earlier ones."""

    #: What they have reached together, where that is measured.
    reached: Reached = field(default_factory=Reached)
    #: How many positions groups had before the first, by the names of their roots.
    began: Mapping[str, int] = field(default_factory=dict)


_ALL_SO_FAR: TypeAdapter[SoFar] = TypeAdapter(SoFar)


@dataclass(frozen=True)
class Rounds:
    """The rounds of one step: which are still to be done, and the training behind each."""

    count: int
    recipe: Recovery | None
    context: Context
    #: Where an earlier attempt was interrupted.
    resumed: TrainingState | None

    @classmethod
    def of(cls, count: int, recipe: Recovery | None, context: Context) -> Self:
        """The rounds of a step that begins, or goes on."""
        return cls(count, recipe, context, context.checkpoints.resume())

    def begin(self, candidate: Candidate) -> Candidate:
        """The candidate as the first round finds it that is still to be done."""
        if self.resumed is None:
            return candidate
        edits = _ALL_EDITS.validate_python(self.resumed.values[_EDITS])
        apply_edits(candidate.module, edits[len(candidate.edits) :])
        found = replace(candidate, edits=edits, masks=masks_of(self.resumed))
        return self.train(found, self._interrupted, self.so_far)

    @property
    def train_between(self) -> bool:
        """Whether a round begins with a network that the one before has trained."""
        return self.recipe is not None

    def left(self) -> range:
        """The rounds that are still to be done."""
        return range(self._interrupted + 1, self.count)

    @property
    def so_far(self) -> SoFar:
        """What is known of the rounds of an interrupted attempt."""
        return SoFar() if self.resumed is None else _ALL_SO_FAR.validate_python(self.resumed.values[_SO_FAR])

    @property
    def _interrupted(self) -> int:
        return -1 if self.resumed is None else int(str(self.resumed.values[_ROUND]))

    def pruning(self, number: int) -> Context:
        """What the pruning of a round may use; where training follows, that is what takes the time."""
        part = 0 if self.train_between and number + 1 < self.count else 1
        return replace(
            self.context,
            progress=lambda done, phase: self.context.progress((number + part * done) / self.count, phase),
        )

    def train(self, candidate: Candidate, number: int, so_far: SoFar) -> Candidate:
        """Train behind a round, unless it is the last; `so_far` is of all rounds until then."""
        if self.recipe is not None and number + 1 < self.count:
            start = [self.resumed] if self.resumed is not None and number == self._interrupted else []
            recover(candidate, self.recipe, self._within(candidate, number, so_far, start))
        return candidate

    def _within(self, candidate: Candidate, number: int, so_far: SoFar, start: list[TrainingState]) -> Context:
        edits = _ALL_EDITS.dump_python(candidate.edits, mode="json")
        marks = {_ROUND: number, _EDITS: edits, _SO_FAR: _ALL_SO_FAR.dump_python(so_far, mode="json")}
        return replace(
            self.context,
            seed=self.context.seed + number + 1,
            progress=lambda fraction, phase: self.context.progress(
                (number + fraction) / self.count, f"round {number + 1} of {self.count}, {phase}"
            ),
            checkpoints=Phase(self.context.checkpoints, start, marks),
        )
