"""Checkpoints of a training that is interrupted, and of one that goes on from there."""

from dataclasses import dataclass, field, replace

from compressor.context import Interrupted, TrainingState


@dataclass
class StopAt:
    """Keeps of every state what a file would, and interrupts at the one of this number."""

    number: int
    kept: list[TrainingState] = field(default_factory=list)

    def resume(self) -> TrainingState | None:
        """Everything is done from its beginning."""
        return None

    def save(self, state: TrainingState) -> None:
        """One state more."""
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in state.tensors.items()}
        self.kept.append(replace(state, tensors=tensors, values=dict(state.values)))
        if len(self.kept) == self.number:
            raise Interrupted


@dataclass(frozen=True)
class GoOnFrom:
    """Begins with what was kept, and keeps nothing."""

    state: TrainingState

    def resume(self) -> TrainingState | None:
        """What was kept."""
        return self.state

    def save(self, state: TrainingState) -> None:
        """Nothing is kept."""
