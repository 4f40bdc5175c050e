"""Training as a step of its own."""

from typing import ClassVar, Literal

from contract.methods.params import Recovery, Role, Stage, Training


class FineTune(Training, Recovery):
    """Trains the model on labelled data, keeping pruned weights at zero."""

    method: Literal["fine_tune"] = "fine_tune"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True
    keeps_codes: ClassVar[bool] = True
