"""Where steps begin that let convolutions and linear layers run in integers, with activations in measured ranges."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Self, TypeVar

from torch import nn
from torch.fx import GraphModule

from compressor.attention import ATTENTION
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.quantization.graph import capture
from compressor.quantization.plan import QuantizationPlan
from compressor.quantization.processor import meant
from compressor.quantization.products import Product
from compressor.quantization.ranging import calibration_images
from compressor.quantization.selection import check, report, report_rest, selected
from contract.failures import NothingToQuantize
from contract.methods.aware import QuantizeAware
from contract.methods.quantize import Processor, QuantizeStatic

#: Of the products that such a step can take.
KINDS = frozenset({"convolution", "linear"})
_MODULES = (nn.Conv2d, nn.Linear, *ATTENTION)

P = TypeVar("P", QuantizeStatic, QuantizeAware)


def preflight(candidate: Candidate, params: P) -> None:
    """Raise where no layer can be meant."""
    check(candidate.module, params, kinds=_MODULES, method=params.method)


@dataclass(frozen=True)
class IntegerStep(Generic[P]):
    """One step underway."""

    candidate: Candidate
    graph: GraphModule
    chosen: tuple[Product, ...]
    params: P
    context: Context
    images: Images

    @classmethod
    def begin(cls, candidate: Candidate, params: P, context: Context) -> Self:
        """The step on the network's graph, with the layers that it takes; raises what they cannot be taken for."""
        candidate.module.to(context.device)
        graph = capture(candidate.module, candidate.input_shape)
        chosen = selected(candidate, graph, params, kinds=KINDS, beside=candidate.plan.levels)
        if not chosen and not candidate.plan.integers:
            raise NothingToQuantize("Every layer has codes that no integer kernel multiplies.")
        images = calibration_images(context, samples=params.samples, method=params.method)
        return cls(candidate, graph, chosen, params, context, images)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The weights to quantize."""
        return tuple(dict.fromkeys(product.parameter for product in self.chosen))

    @property
    def target(self) -> Processor:
        """The processor that the codes are for."""
        return meant(self.params.target)

    def report_layers(self, plan: QuantizationPlan) -> None:
        """Record which layers run in integers by the plan, and which of those that were meant do not."""
        static = {name: weight for name, weight in plan.integers.items() if name in plan.static}
        report(self.candidate, static, self.context)
        report_rest(self.candidate, self.chosen, self.params, self.context)
