"""Quantization-aware training (Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.2).

It starts as post-training quantization does, with weights at their nearest codes and activations in measured ranges.
Then the float weights behind the codes are trained, and with them the steps of all codes, while the network computes
with what the codes mean. What comes out is an ordinary plan.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from torch import Tensor
from torch.fx import Node

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.quantization.aware import Aware, made_aware
from compressor.quantization.codes import weight_codes
from compressor.quantization.drafting import Draft, Drafting
from compressor.quantization.fidelity import fidelity
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.graph import capture, sites
from compressor.quantization.integer_step import KINDS, IntegerStep, preflight
from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import WeightSign, WeightStep
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.processor import INTEGERS
from compressor.quantization.products import Product, coded, natural_range, products
from compressor.quantization.ranging import Ranging, batches, side_by_side
from compressor.quantization.selection import replace_weights, report_target
from compressor.training.recovery import recover
from compressor.training.splitting import split_of
from compressor.training.state import AfterUpdate, Run
from contract.failures import AlreadyQuantized
from contract.methods.aware import QuantizeAware
from contract.methods.low_bit import ENDS, Scheme

__all__ = ["apply", "preflight"]

#: Part of the progress that is calibration.
_MEASURING = 0.1
#: Bits from which on a weight's codes begin with its whole range; fewer leave out what the least squared error does.
_RANGE_BITS = 7


def apply(candidate: Candidate, params: QuantizeAware, context: Context) -> Candidate:
    """Train weights and steps together, and give both to the plan."""
    _refuse_integers(candidate)
    step = _Step.begin(candidate, params, context)
    before = step.before()
    aware, earlier = step.trained(before.plan)
    after = step.draft(earlier, aware.weight_codes(), aware.activation_codes())
    step.tell(before, after)
    codes = {name: after.plan.integers[name] for name in step.names}
    replace_weights(candidate.module, codes)
    step.report_layers(after.plan)
    return replace(candidate, plan=after.plan)


def _refuse_integers(candidate: Candidate) -> None:
    """Codes that integer kernels multiply are not trained; those that are stored are."""
    name = next((name for name in candidate.plan.weights if name not in candidate.plan.levels), None)
    if name is not None:
        layer = name.rpartition(".")[0]
        raise AlreadyQuantized(f"{layer} has its integers from an earlier step, and may not be trained.", layer=layer)


class _Step(IntegerStep[QuantizeAware]):
    """One step underway."""

    @cached_property
    def batch(self) -> Tensor:
        """Images that run through float and quantized network side by side."""
        return side_by_side(self.images, self.context)

    @cached_property
    def ends(self) -> tuple[Product, ...]:
        """The first and the last product of the network, where they are not treated like all others."""
        found = [product for product in products(self.graph) if product.kind in KINDS]
        return () if self.params.all_layers else (found[0], found[-1])

    @cached_property
    def weights(self) -> dict[str, WeightStep | WeightSign]:
        """What rounds each weight, by its name."""
        full, ends = INTEGERS[self.target].weight_bits, {product.parameter for product in self.ends}
        bits = {name: full if name in ends else min(full, self.params.bits) for name in self.names}
        return {name: self._rounder(name, bits[name]).to(self.context.device) for name in self.names}

    def _rounder(self, name: str, bits: int) -> WeightStep | WeightSign:
        weight = self.candidate.module.get_parameter(name)
        if bits == 1:
            return WeightSign()
        if bits >= _RANGE_BITS:
            return WeightStep(weight_codes(weight, per_channel=True, bits=bits).scale, bits=bits)
        fitted = encoded(weight, Form(Scheme.SYMMETRIC, bits, clipped=True), kept=self.candidate.masks.get(name))
        assert fitted.scale is not None
        return WeightStep(fitted.scale.flatten(), bits=bits)

    def before(self) -> Draft:
        """The plan that post-training quantization makes."""
        codes = {name: step.codes(self.candidate.module.get_parameter(name)) for name, step in self.weights.items()}
        return self.draft(self.candidate.plan, codes, self._measured())

    def _measured(self) -> dict[str, ActivationCode]:
        """By site, the codes of activations in the ranges that they have before any training."""
        owners = coded(self.graph, self.candidate.plan.static_with(self.names))
        low = self._of_low_bits(owners) if self.params.activation_bits < ENDS else set()
        signed, middle = INTEGERS[self.target].signed, _MEASURING / 2
        full = Ranging(calibrator=self.params.calibrator, percent=99.99, symmetric=signed, signed=signed)
        few = replace(full, calibrator="mse", top=2**self.params.activation_bits - 1)
        images = batches(self.images, self.context, "calibration", 0.0, middle)
        found = full.codes(self.graph, set(owners.values()) - low, images, self.context)
        if low:
            images = batches(self.images, self.context, "calibration of few bits", middle, _MEASURING)
            found |= few.codes(self.graph, low, images, self.context)
        places = sites(self.graph)
        self.context.record("calibrator", self.params.calibrator)
        self.context.record("calibration_images", len(self.images))
        return {places[node]: code for node, code in found.items()}

    def _of_low_bits(self, owners: Mapping[Node, Node]) -> set[Node]:
        """The activations that are multiplied with weights, but those at the ends and those of gates."""
        taken = self.candidate.plan.static_with(self.names)
        read = {p: owners[p.node.args[0]] for p in products(self.graph) if p.node.args[0] in owners}  # type: ignore[index]
        kept = {read[product] for product in self.ends if product in read}
        low = {node for product, node in read.items() if product.parameter in taken}
        return {node for node in low - kept if natural_range(node) is None}

    def draft(
        self,
        earlier: QuantizationPlan,
        codes: Mapping[str, WeightCodes],
        activations: Mapping[str, ActivationCode],
    ) -> Draft:
        """A plan of these codes, and how near it is to the network as its float weights are now."""
        drafting = Drafting(
            graph=self.graph,
            earlier=earlier,
            codes=codes,
            activations={node: activations[site] for node, site in sites(self.graph).items() if site in activations},
            batch=self.batch,
            correct_bias=False,
        )
        return drafting.draft(self.names)

    def trained(self, start: QuantizationPlan) -> tuple[Aware, QuantizationPlan]:
        """The network behind its training, and the plan with the codes that stored weights have learned."""
        graph = capture(self.candidate.module, self.candidate.input_shape)
        aware = made_aware(graph, self.weights, start.activations)
        student = replace(self.candidate, module=aware.network)
        context = replace(self.context, progress=self._progress)
        run = recover(student, self.params, context, after_update=self._freezing(aware))
        return aware, run.coded(self.candidate).plan

    def _progress(self, fraction: float, phase: str) -> None:
        self.context.progress(_MEASURING + (1 - _MEASURING) * fraction, phase)

    def _freezing(self, aware: Aware) -> AfterUpdate:
        learn = split_of(self.params, self.context).learn
        free = self.params.normalizing * self.params.epochs * len(learn.batch_sizes(self.params.batch_size))
        if not free:
            aware.freeze()

        def after_update(run: Run, iteration: int) -> None:
            del run
            if iteration + 1 >= free:
                aware.freeze()

        return after_update

    def tell(self, before: Draft, after: Draft) -> None:
        """What came of it: the answers are compared with those of the network as it was before the step."""
        classes, exact = self.candidate.classes, before.logits.exact.cpu()
        untrained = fidelity(exact, before.logits.coded.cpu(), before.sqnr_db, classes=classes)
        trained = fidelity(exact, after.logits.coded.cpu(), after.sqnr_db, classes=classes)
        self.context.record("before_training", untrained.model_dump(mode="json"))
        self.context.record("quantization", trained.model_dump(mode="json"))
        report_target(self.target, self.context)
        self._tell_of_bits(after.plan)

    def _tell_of_bits(self, plan: QuantizationPlan) -> None:
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


def _short(number: float) -> float:
    return float(f"{number:.4g}")
