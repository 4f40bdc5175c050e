"""Post-training quantization to INT8 or fewer bits with ranges measured on calibration data.

Weights: symmetric int8, the range of each output channel. Activations: uint8, one range for the whole tensor, with
zero in it. Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference; per-channel weights after Krishnamoorthi 2018, Quantizing deep convolutional networks for efficient
inference. What mends the rest before and after has a module of its own in `compressor.quantization`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.fx import Node

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers, paired_drop
from compressor.quantization.accuracy_control import Held, held
from compressor.quantization.bias_correction import uncorrectable
from compressor.quantization.drafting import Draft, Drafting
from compressor.quantization.equalization import equalize
from compressor.quantization.fidelity import fidelity
from compressor.quantization.graph import capture, sites
from compressor.quantization.integer_step import IntegerStep, preflight
from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import WeightStep
from compressor.quantization.plan import ActivationCode
from compressor.quantization.processor import INTEGERS
from compressor.quantization.products import result
from compressor.quantization.ranging import Ranging, batches, kept_together, side_by_side
from compressor.quantization.reconstruction import Reconstruction
from compressor.quantization.rounding import adapted
from compressor.quantization.selection import replace_weights, report_target
from compressor.quantization.smoothing import smooth
from compressor.quantization.soft_rounding import SoftRounding
from contract.methods.quantize import QuantizeStatic

__all__ = ["apply", "preflight"]

#: Images on which accuracy is compared for `max_drop`, at most.
_JUDGED = 1024


def apply(candidate: Candidate, params: QuantizeStatic, context: Context) -> Candidate:
    """Give weights their codes and activations their ranges."""
    step = _Step.begin(candidate, params, context)
    step.prepare()
    made = step.made()
    planned = made.draft.plan.integers
    codes = {name: planned[name] for name in step.names if name in planned}
    step.tell(made, codes)
    replace_weights(candidate.module, codes)
    _replace_biases(candidate.module, made.draft.biases)
    step.report_layers(made.draft.plan)
    return replace(candidate, plan=made.draft.plan)


class _Step(IntegerStep[QuantizeStatic]):
    """One step underway."""

    def prepare(self) -> None:
        """Change the float network so that it quantizes well and answers as before."""
        if self.params.equalize:
            self.context.record("equalized", list(equalize(self.graph, among=self.names)))
        if self.params.smooth is not None:
            smoothed = smooth(
                self.graph,
                batches(self.images, self.context, "smoothing", 0.0, 0.3),
                strength=self.params.smooth,
                chosen=self.names,
                keep=self.candidate.plan.weights,
            )
            if smoothed:
                self.context.record("smoothed", list(smoothed))

    def made(self) -> Held:
        """The plan, with the layers in float that must be for the limit to hold."""
        drafting = self._drafting()
        if self.params.max_drop is None:
            return Held(drafting.draft(self.names))
        limit, cost = self.params.max_drop, self._cost(drafting)
        return held(drafting, self.names, cost, limit=limit, tell=self._tell_from(0.9))

    def _drafting(self) -> Drafting:
        steps = {name: self.step_of(name, per_channel=self.params.per_channel) for name in self.names}
        weights = {name: self.candidate.module.get_parameter(name).detach() for name in self.names}
        drafting = Drafting(
            graph=self.graph,
            earlier=self.candidate.plan,
            activations=self._activations(),
            codes={name: step.to(weights[name].device).codes(weights[name]) for name, step in steps.items()},
            batch=side_by_side(self.images, self.context),
            correct_bias=self.params.correct_bias,
        )
        match self.params.rounding:
            case "nearest":
                return drafting
            case "adaptive":
                return drafting.with_codes(self._adapted(drafting))
            case "reconstruction":
                return self._reconstructed(drafting, steps)

    def _activations(self) -> dict[Node, ActivationCode]:
        params, signed = self.params, INTEGERS[self.target].signed
        ranging = Ranging(
            calibrator=params.calibrator,
            percent=params.percentile,
            symmetric=params.activations == "symmetric" or (params.activations == "auto" and signed),
            signed=signed,
        )
        codes = self.measured(ranging, self._worth_a_code(), start=0.3, end=0.6)
        # An earlier step may have learned its codes.
        earlier, places = self.candidate.plan.activations, sites(self.graph)
        return {node: earlier.get(places[node], code) for node, code in codes.items()}

    def _worth_a_code(self) -> set[Node]:
        """The activations that are coded, and those that would be if some layers were put back to float."""
        nodes = set(self.owners.values())
        if self.params.max_drop is not None:
            nodes |= {product.node.args[0] for product in self.chosen}  # type: ignore[misc]
            nodes |= {result(product.node) for product in self.chosen if product.kind == "convolution"}
        return nodes

    def _adapted(self, drafting: Drafting) -> Mapping[str, WeightCodes]:
        tell = self._tell_from(0.6)
        return adapted(
            self.graph,
            {product.node: product for product in self.chosen},
            drafting.codes,
            drafting.batch,
            activations=drafting.used(self.names),
            seed=self.context.seed,
            tell=lambda fraction: tell(fraction * 0.75, "rounding"),
        )

    def _reconstructed(self, drafting: Drafting, steps: Mapping[str, WeightStep]) -> Drafting:
        places, tell = sites(self.graph), self._tell_from(0.6)
        aware = Reconstruction(
            iterations=self.params.iterations,
            generator=torch.Generator().manual_seed(self.context.seed),
            device=self.context.device,
            tell=lambda fraction, phase: tell(fraction * 0.75, phase),
        ).reconstructed(
            capture(self.candidate.module, self.candidate.input_shape),
            {name: SoftRounding(self.candidate.module.get_parameter(name), step) for name, step in steps.items()},
            {places[node]: code for node, code in drafting.used(self.names).items()},
            fixed=self.candidate.plan.activations,
            images=kept_together(self.images, self.context),
        )
        found = aware.activation_codes()
        learned = {node: found.get(places[node], code) for node, code in drafting.activations.items()}
        return replace(drafting, codes=aware.weight_codes(), activations=learned)

    def _tell_from(self, start: float) -> Callable[[float, str], None]:
        return lambda fraction, phase: self.context.progress(start + (1 - start) * fraction, phase)

    def _cost(self, drafting: Drafting) -> Callable[[Draft], float]:
        """Measures the accuracy that a draft loses, as it would be deployed."""
        assert self.context.calibration is not None
        images = self.context.calibration.take(_JUDGED, seed=self.context.seed)
        before = answers(self.graph, images, device=self.context.device)

        def cost(draft: Draft) -> float:
            after = answers(drafting.trial(draft), images, device=self.context.device)
            return paired_drop(before, after, images.labels).value

        return cost

    def tell(self, made: Held, codes: Collection[str]) -> None:
        """What came of it."""
        context, logits = self.context, made.draft.logits
        found = fidelity(logits.exact.cpu(), logits.coded.cpu(), made.draft.sqnr_db, classes=self.candidate.classes)
        context.record("quantization", found.model_dump(mode="json"))
        if made.cost is not None:
            context.record("drop", made.cost)
        if made.ranking:
            context.record("ranking", {one.layer: float(f"{one.kl:.4g}") for one in made.ranking})
            context.record("put_back_to_float", [one.layer for one in made.ranking[: made.put_back]])
        report_target(self.target, context)
        if self.params.few_bits:
            self.tell_of_bits(made.draft.plan)
        self._tell_of_channels(codes)
        if self.params.correct_bias:
            left = uncorrectable(self.graph, (p for p in self.chosen if p.parameter in codes))
            if left:
                context.record("bias_not_corrected", list(left))

    def _tell_of_channels(self, codes: Collection[str]) -> None:
        empty = {}
        for name in codes:
            weight = self.candidate.module.get_parameter(name).detach().flatten(1)
            if count := int((weight == 0).all(1).sum()):
                empty[name.rpartition(".")[0]] = count
        if empty:
            told = ", ".join(f"{layer} ({count})" for layer, count in list(empty.items())[:4])
            self.context.notice("empty_channels", f"Channels whose weights are all zero: {told}.")


def _replace_biases(module: nn.Module, biases: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, bias in biases.items():
            module.get_parameter(name).copy_(bias)
