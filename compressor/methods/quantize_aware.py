"""Quantization-aware training (Jacob et al. 2018, section 3; Krishnamoorthi 2018, section 3.2).

It starts as post-training quantization does, with weights at their nearest codes and activations in measured ranges.
Then the float weights behind the codes are trained, and with them the steps of all codes, while the network computes
with what the codes mean. What comes out is an ordinary plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor, nn
from torch.fx import GraphModule

from compressor.attention import ATTENTION
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.quantization.aware import Aware, made_aware
from compressor.quantization.codes import weight_codes
from compressor.quantization.drafting import Draft, Drafting
from compressor.quantization.fidelity import fidelity
from compressor.quantization.graph import capture, sites
from compressor.quantization.integers import WeightCodes
from compressor.quantization.learned import WeightStep
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.processor import INTEGERS, Processor, meant
from compressor.quantization.products import Product, coded
from compressor.quantization.ranging import Ranging, batches, calibration_images, side_by_side
from compressor.quantization.selection import check, replace_weights, report, report_rest, report_target, selected
from compressor.training.recovery import recover
from compressor.training.splitting import split_of
from compressor.training.state import AfterUpdate, Run
from contract.failures import AlreadyQuantized, NothingToQuantize
from contract.methods.aware import QuantizeAware

_KINDS = frozenset({"convolution", "linear"})
_MODULES = (nn.Conv2d, nn.Linear, *ATTENTION)
#: Part of the progress that is calibration.
_MEASURING = 0.1


def preflight(candidate: Candidate, params: QuantizeAware) -> None:
    """Raise where no layer can be meant."""
    check(candidate.module, params, kinds=_MODULES, method=params.method)


def apply(candidate: Candidate, params: QuantizeAware, context: Context) -> Candidate:
    """Train weights and steps together, and give both to the plan."""
    _refuse_integers(candidate)
    candidate.module.to(context.device)
    graph = capture(candidate.module, candidate.input_shape)
    chosen = selected(candidate, graph, params, kinds=_KINDS, beside=candidate.plan.stored)
    if not chosen and not candidate.plan.integers:
        raise NothingToQuantize("Every layer has codes that no integer kernel multiplies.")
    images = calibration_images(context, samples=params.samples, method=params.method)
    step = _Step(candidate, graph, chosen, params, context, images)
    before = step.before()
    aware, earlier = step.trained(before.plan)
    after = step.draft(earlier, aware.weight_codes(), aware.activation_codes())
    step.tell(before, after)
    codes = {name: after.plan.integers[name] for name in step.names}
    replace_weights(candidate.module, codes)
    report(candidate, {n: w for n, w in after.plan.integers.items() if n in after.plan.static}, context)
    report_rest(candidate, chosen, params, context)
    return replace(candidate, plan=after.plan)


def _refuse_integers(candidate: Candidate) -> None:
    """Codes that integer kernels multiply are not trained; those that are stored are."""
    for name in candidate.plan.weights.keys() - candidate.plan.stored:
        layer = name.rpartition(".")[0]
        raise AlreadyQuantized(f"{layer} has its integers from an earlier step, and may not be trained.", layer=layer)


@dataclass(frozen=True)
class _Step:
    """One step underway."""

    candidate: Candidate
    graph: GraphModule
    chosen: tuple[Product, ...]
    params: QuantizeAware
    context: Context
    images: Images

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The weights to quantize."""
        return tuple(dict.fromkeys(product.parameter for product in self.chosen))

    @property
    def target(self) -> Processor:
        """The processor that the codes are for."""
        return meant(self.params.target)

    @cached_property
    def batch(self) -> Tensor:
        """Images that run through float and quantized network side by side."""
        return side_by_side(self.images, self.context)

    def before(self) -> Draft:
        """The plan that post-training quantization makes."""
        module, bits = self.candidate.module, INTEGERS[self.target].weight_bits
        codes = {name: weight_codes(module.get_parameter(name), per_channel=True, bits=bits) for name in self.names}
        return self.draft(self.candidate.plan, codes, self._measured())

    def _measured(self) -> dict[str, ActivationCode]:
        """By site, the codes of activations in the ranges that they have before any training."""
        signed = INTEGERS[self.target].signed
        ranging = Ranging(calibrator=self.params.calibrator, percent=99.99, symmetric=signed, signed=signed)
        nodes = set(coded(self.graph, {*self.candidate.plan.integers, *self.names}).values())
        images = batches(self.images, self.context, "calibration", 0.0, _MEASURING)
        found, places = ranging.codes(self.graph, nodes, images, self.context), sites(self.graph)
        self.context.record("calibrator", self.params.calibrator)
        self.context.record("calibration_images", len(self.images))
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
        weights = {name: WeightStep(w.scale, bits=w.bits) for name, w in start.integers.items() if name in self.names}
        graph = capture(self.candidate.module, self.candidate.input_shape)
        aware = made_aware(graph, weights, start.activations)
        student = replace(self.candidate, module=aware.network)
        context = replace(self.context, progress=self._progress)
        run = recover(student, self.params, context, after_update=self._freezing(aware))
        return aware, run.coded(self.candidate).plan

    def _progress(self, fraction: float, phase: str) -> None:
        self.context.progress(_MEASURING + (1 - _MEASURING) * fraction, phase)

    def _freezing(self, aware: Aware) -> AfterUpdate:
        learn = split_of(self.params, self.context).learn
        free = self.params.freeze_after * self.params.epochs * len(learn.batch_sizes(self.params.batch_size))
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
