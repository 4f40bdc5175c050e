"""Quantization-aware training (Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.2).

It starts as post-training quantization does, with weights at their nearest codes and activations in measured ranges.
Then the float weights behind the codes are trained, and with them the steps of all codes, while the network computes
with what the codes mean. What comes out is an ordinary plan.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.quantization.aware import Aware, Rounder, made_aware
from compressor.quantization.clipping import ActivationClip
from compressor.quantization.drafting import Draft, Drafting
from compressor.quantization.fidelity import fidelity
from compressor.quantization.graph import capture, sites
from compressor.quantization.integer_step import IntegerStep, preflight
from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import ActivationStep
from compressor.quantization.odd import WeightSign, WeightTanh
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.processor import INTEGERS
from compressor.quantization.ranging import Ranging, side_by_side
from compressor.quantization.selection import replace_weights, report_target
from compressor.training.recovery import recover
from contract.failures import AlreadyQuantized
from contract.methods.aware import QuantizeAware

__all__ = ["apply", "preflight"]

#: Part of the progress that is calibration.
_MEASURING = 0.1
#: A training that loses more answers than this part of all has not learned anything else instead.
_RUIN = 0.2


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

    @property
    def inner_bits(self) -> int:
        """Odd codes reach as far as all codes of one bit more."""
        return min(super().inner_bits, self.full_bits - 1) if self.params.odd else super().inner_bits

    @cached_property
    def weights(self) -> dict[str, Rounder]:
        """What rounds each weight, by its name."""
        return {name: self._weight(name).to(self.context.device) for name in self.names}

    def _weight(self, name: str) -> Rounder:
        bits = self.bits[name]
        if bits == 1:
            return WeightSign()
        if self.params.odd and bits < self.full_bits:
            return WeightTanh(bits=bits)
        return self.step_of(name, per_channel=True)

    def _activation(self, code: ActivationCode, ceiling: float) -> ActivationStep:
        """What rounds an activation; PACT clips what has no values below zero."""
        if self.params.quantizer == "pact" and code.zero_point == 0:
            return ActivationClip(code, ceiling=ceiling, decay=self.params.clip_decay)
        return ActivationStep(code, learns=self.params.quantizer != "dorefa", ceiling=ceiling)

    def before(self) -> Draft:
        """The plan that post-training quantization makes."""
        codes = {name: step.codes(self.candidate.module.get_parameter(name)) for name, step in self.weights.items()}
        return self.draft(self.candidate.plan, codes, self._measured())

    def _measured(self) -> dict[str, ActivationCode]:
        """By site, the codes of activations in the ranges that they have before any training."""
        signed, places = INTEGERS[self.target].signed, sites(self.graph)
        ranging = Ranging(calibrator=self.params.calibrator, percent=99.99, symmetric=signed, signed=signed)
        found = self.measured(ranging, set(self.owners.values()), start=0.0, end=_MEASURING)
        return {places[node]: code for node, code in found.items()}

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
        aware = made_aware(graph, self.weights, start.activations, rounding=self._activation)
        student = replace(self.candidate, module=aware.network)
        context = replace(self.context, progress=self._progress)
        run = recover(student, self.params, context)
        return aware, run.coded(self.candidate).plan

    def _progress(self, fraction: float, phase: str) -> None:
        self.context.progress(_MEASURING + (1 - _MEASURING) * fraction, phase)

    def tell(self, before: Draft, after: Draft) -> None:
        """What came of it: the answers are compared with those of the network as it was before the step."""
        classes, exact = self.candidate.classes, before.logits.exact.cpu()
        untrained = fidelity(exact, before.logits.coded.cpu(), before.sqnr_db, classes=classes)
        trained = fidelity(exact, after.logits.coded.cpu(), after.sqnr_db, classes=classes)
        self.context.record("before_training", untrained.model_dump(mode="json"))
        self.context.record("quantization", trained.model_dump(mode="json"))
        if trained.top1_agreement < untrained.top1_agreement - _RUIN:
            self.context.notice(
                "ruined_by_training",
                f"The training took the share of answers that are the network's as it was before the step from "
                f"{untrained.top1_agreement:.1%} to {trained.top1_agreement:.1%}. A smaller learning_rate or a "
                "freeze_after of 0.67 keeps more; quantize_static does not train.",
            )
        report_target(self.target, self.context)
        self.tell_of_bits(after.plan)
