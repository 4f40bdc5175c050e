"""One of several trainings in a step: its checkpoints are the step's, and say which training they are of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from compressor.context import Checkpoints, TrainingState
from contract.value import Json


@dataclass(frozen=True)
class Phase:
    """The checkpoints of one training; the step's own have been looked at to know which training was interrupted."""

    step: Checkpoints
    #: The state in which this training was interrupted; emptied by whoever goes on from it.
    start: list[TrainingState]
    #: What tells this training from the step's others.
    marks: Mapping[str, Json] = field(default_factory=dict)

    def resume(self) -> TrainingState | None:
        """The state in which this training was interrupted, once."""
        return self.start.pop() if self.start else None

    def save(self, state: TrainingState) -> None:
        """Keep the state with its marks; raises `Interrupted` behind it where the job shall stop."""
        self.step.save(replace(state, values={**state.values, **self.marks}))
