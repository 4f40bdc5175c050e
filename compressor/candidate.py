"""What flows from step to step."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor, nn

from compressor.models.edits import Edit
from compressor.quantization.plan import QuantizationPlan
from contract.model import Architecture, Preprocessing


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model on its way: an eager float module, and all that must be known to write it, train it and rebuild it.

    Quantizing steps fill `plan` and leave the module float; `compressor.quantization.simulate.simulated` computes what
    the plan means. Only `compressor.exports` makes deployment formats out of a candidate.
    """

    module: nn.Module
    #: What the library built before any edit.
    architecture: Architecture
    preprocessing: Preprocessing
    #: Width of the logits.
    num_classes: int
    #: Names of the classes in the order of the logits.
    classes: tuple[str, ...] | None = None
    #: What was done to the architecture's shape, in order; `architecture` and these rebuild the module.
    edits: tuple[Edit, ...] = ()
    #: For a pruned parameter's name, true where the weight is kept; of the parameter's shape.
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    plan: QuantizationPlan = field(default_factory=QuantizationPlan)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self.preprocessing.input_shape

    def copied(self) -> Self:
        """The same with a module of its own."""
        return replace(self, module=copy.deepcopy(self.module))

    @property
    def masked_count(self) -> int:
        """How many weights are pruned, and still there as zeros."""
        return sum(mask.numel() - int(mask.count_nonzero()) for mask in self.masks.values())

    def apply_masks(self) -> None:
        """Set every masked weight of the module to zero again."""
        for name, mask in self.masks.items():
            parameter = self.module.get_parameter(name)
            parameter.data.mul_(mask.to(parameter.device))
