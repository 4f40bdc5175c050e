"""Where steps begin that let convolutions and linear layers run in integers, with activations in measured ranges."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, Self, TypeVar

from torch import nn
from torch.fx import GraphModule, Node

from compressor.attention import ATTENTION
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.inputs import ends
from compressor.quantization.codes import weight_codes
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.graph import capture
from compressor.quantization.learned import WeightStep
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.processor import INTEGERS, meant
from compressor.quantization.products import Product, coded, natural_range, products
from compressor.quantization.ranging import Ranging, batches, calibration_images
from compressor.quantization.selection import check, report, report_rest, selected
from contract.failures import NothingToQuantize
from contract.methods.aware import QuantizeAware
from contract.methods.low_bit import ENDS, Scheme
from contract.methods.quantize import Processor, QuantizeStatic

#: Of the products that such a step can take.
KINDS = frozenset({"convolution", "linear"})
_MODULES = (nn.Conv2d, nn.Linear, *ATTENTION)
#: Bits from which on a weight's codes begin with its whole range; fewer leave out what the least squared error does.
_RANGE_BITS = 7

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
            raise NothingToQuantize(
                "Every layer has codes that no integer kernel multiplies. Those of quantize_weights are multiplied "
                "with scheme symmetric and without group_size."
            )
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

    @cached_property
    def ends(self) -> tuple[Product, ...]:
        """The products of the network's first and last layer, where they are not treated like all others."""
        if self.params.all_layers:
            return ()
        layers = ends(self.candidate.module, self.candidate.input_shape)
        return tuple(product for product in products(self.graph) if product.layer in layers)

    @property
    def full_bits(self) -> int:
        """The most bits of a weight that the processor multiplies exactly."""
        return INTEGERS[self.target].weight_bits

    @property
    def inner_bits(self) -> int:
        """Bits of a weight that is not at the ends."""
        return min(self.full_bits, self.params.bits)

    @cached_property
    def bits(self) -> dict[str, int]:
        """Bits of each weight to quantize, by its name."""
        ends = {product.parameter for product in self.ends}
        return {name: self.full_bits if name in ends else self.inner_bits for name in self.names}

    def step_of(self, name: str, *, per_channel: bool) -> WeightStep:
        """The step of a weight's codes before anything is learned."""
        weight, bits = self.candidate.module.get_parameter(name), self.bits[name]
        if bits >= _RANGE_BITS:
            return WeightStep(weight_codes(weight, per_channel=per_channel, bits=bits).scale, bits=bits)
        kept, shape = self.candidate.masks.get(name), (len(weight) if per_channel else 1, -1)
        form = Form(Scheme.SYMMETRIC, bits, clipped=True)
        fitted = encoded(weight.reshape(shape), form, kept=None if kept is None else kept.reshape(shape))
        assert fitted.scale is not None
        return WeightStep(fitted.scale.flatten(), bits=bits)

    @cached_property
    def owners(self) -> Mapping[Node, Node]:
        """The activations that are coded, and for each the one whose scale it has."""
        return coded(self.graph, self.candidate.plan.static_with(self.names))

    def measured(
        self, ranging: Ranging, nodes: Collection[Node], *, start: float, end: float
    ) -> dict[Node, ActivationCode]:
        """The codes of these activations, those of few bits by the least squared error, while progress goes on."""
        few = self._of_few_bits() & set(nodes)
        middle = (start + end) / 2 if few else end
        images = batches(self.images, self.context, "calibration", start, middle)
        found = ranging.codes(self.graph, set(nodes) - few, images, self.context)
        if few:
            coarse = replace(ranging, calibrator="mse", top=2**self.params.activation_bits - 1)
            images = batches(self.images, self.context, "calibration of few bits", middle, end)
            found |= coarse.codes(self.graph, few, images, self.context)
        self.context.record("calibrator", ranging.calibrator)
        self.context.record("calibration_images", len(self.images))
        return found

    def _of_few_bits(self) -> set[Node]:
        """Of the activations that are coded, those multiplied with weights, but for those at the ends and of gates."""
        if self.params.activation_bits >= ENDS:
            return set()
        taken, owners = self.candidate.plan.static_with(self.names), self.owners
        read = {p: owners[p.node.args[0]] for p in products(self.graph) if p.node.args[0] in owners}  # type: ignore[index]
        kept = {read[product] for product in self.ends if product in read}
        few = {node for product, node in read.items() if product.parameter in taken}
        return {node for node in few - kept if natural_range(node) is None}

    def tell_of_bits(self, plan: QuantizationPlan) -> None:
        """Record the bits and the scales of all codes, and warn where few bits make nothing faster."""
        weights, activations = sorted(plan.integers.items()), sorted(plan.activations.items())
        self.context.record("bits", {name.rpartition(".")[0]: weight.bits for name, weight in weights})
        self.context.record("weight_scales", {n.rpartition(".")[0]: _short(float(w.scale.mean())) for n, w in weights})
        self.context.record("activation_bits", {site: code.top.bit_length() for site, code in activations})
        self.context.record("activation_scales", {site: _short(code.scale) for site, code in activations})
        if self.params.few_bits:
            self.context.notice(
                "low_bit_is_storage_only",
                "Kernels multiply fewer than eight bits as eight: the file is smaller than in INT8, and no faster.",
            )

    def report_layers(self, plan: QuantizationPlan) -> None:
        """Record which layers run in integers by the plan, and which of those that were meant do not."""
        static = {name: weight for name, weight in plan.integers.items() if name in plan.static}
        report(self.candidate, static, self.context)
        report_rest(self.candidate, self.chosen, self.params, self.context)


def _short(number: float) -> float:
    return float(f"{number:.4g}")
