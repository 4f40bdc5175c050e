"""Plans made on trial, the network untouched: which weights become integers, and what that does to the answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compressor.inputs import not_finite
from compressor.measure.fidelity import sqnr_db
from compressor.quantization.bias_correction import correct
from compressor.quantization.graph import copied, sites
from compressor.quantization.integers import WeightCodes
from compressor.quantization.lockstep import Lockstep, Mend, Pair, See
from compressor.quantization.plan import ActivationCode, QuantizationPlan
from compressor.quantization.products import Product, coded, products, result
from compressor.quantization.realize import realize
from contract.failures import UnfitModel


@dataclass(frozen=True, eq=False)
class Draft:
    """A plan, and what belongs to it."""

    plan: QuantizationPlan
    #: By name, the biases that make up for what quantization shifts.
    biases: Mapping[str, Tensor]
    #: Signal to quantization noise of what each layer gives, in decibels; none where nothing differs.
    sqnr_db: Mapping[str, float | None]
    #: What float and quantized network say to the images that were run through both.
    logits: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Drafting:
    """All that plans are made of."""

    graph: GraphModule
    #: What earlier steps have planned.
    earlier: QuantizationPlan
    #: The codes that weights get if they get any, by parameter name.
    codes: Mapping[str, WeightCodes]
    #: Of every activation that may need one.
    activations: Mapping[Node, ActivationCode]
    #: Images (N, C, H, W) that run through float and quantized network side by side.
    batch: Tensor
    correct_bias: bool

    def draft(self, names: Collection[str]) -> Draft:
        """The plan in which these weights have codes, and the others of `codes` have none.

        Raises `UnfitModel` where float or quantized network answers with NaN or infinity.
        """
        weights = {name: self.codes[name] for name in self.codes if name in names}
        used = self.used(names)
        noise: dict[str, float | None] = {}
        taken = [product for product in products(self.graph) if product.parameter in weights]
        run = Lockstep(
            self.graph,
            codes=used,
            parameters={name: weight.dequantized().to(self.batch.device) for name, weight in weights.items()},
            mends={product.node: _corrected(product) for product in taken} if self.correct_bias else {},
            sees={result(product.node): _measured(product.layer, noise) for product in taken},
        )
        logits = run.answers(self.batch)
        _check_finite(logits)
        places = sites(self.graph)
        plan = replace(
            self.earlier.with_weights(weights), activations={places[node]: code for node, code in used.items()}
        )
        biases = {name: value for name, value in run.parameters.items() if name not in weights}
        return Draft(plan, biases, noise, logits)

    def used(self, names: Collection[str]) -> dict[Node, ActivationCode]:
        """The activations that are coded when these weights are."""
        owners = coded(self.graph, self.earlier.static_with(names))
        return {node: self.activations[node] for node in dict.fromkeys(owners.values())}

    def trial(self, draft: Draft) -> GraphModule:
        """A network that computes what the draft means, as it would be deployed; it shares all other parameters."""
        made = copied(self.graph)
        for name, value in draft.biases.items():
            owner, _, attribute = name.rpartition(".")
            made.get_submodule(owner)._parameters[attribute] = nn.Parameter(value, requires_grad=False)
        realize(made, draft.plan)
        return made

    def with_codes(self, codes: Mapping[str, WeightCodes]) -> "Drafting":
        """The same with other codes for weights."""
        return replace(self, codes=codes)


def _check_finite(logits: Pair) -> None:
    if not logits.exact.isfinite().all():
        raise not_finite("the output", layer=None)
    if not logits.coded.isfinite().all():
        raise UnfitModel("Quantized, the network answers calibration images with NaN or infinity. More bits may help.")


def _corrected(product: Product) -> Mend:
    return lambda run, _, y: correct(run, product, y)


def _measured(layer: str, noise: dict[str, float | None]) -> See:
    def see(y: Pair) -> None:
        noise[layer] = sqnr_db(y.exact, y.coded)

    return see
