"""Plans on trial, with weights coarse enough for something to be mended."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node

from compressor.candidate import Candidate
from compressor.quantization.calibration import calibrated, tracker
from compressor.quantization.codes import activation_code, weight_codes
from compressor.quantization.drafting import Draft, Drafting
from compressor.quantization.graph import capture
from compressor.quantization.lockstep import Lockstep, Pair
from compressor.quantization.plan import QuantizationPlan
from compressor.quantization.products import coded, normalization_behind, products
from tests.unit.compressor.networks import inputs_for


def drafting_of(candidate: Candidate, *, bits: int = 3, correct_bias: bool = False, images: int = 64) -> Drafting:
    """Everything quantized, weights to so many bits."""
    graph, batch = capture(candidate.module, candidate.input_shape), inputs_for(candidate, images)
    names = dict.fromkeys(product.parameter for product in products(graph))
    nodes = set(coded(graph, names).values()) | {product.node.args[0] for product in products(graph)}
    seen = calibrated(graph, nodes, [batch], lambda: tracker("minmax", percent=100.0))  # type: ignore[arg-type]
    return Drafting(
        graph=graph,
        earlier=QuantizationPlan(),
        codes={n: weight_codes(candidate.module.get_parameter(n), per_channel=True, bits=bits) for n in names},
        activations={node: activation_code(*activity.chosen.range()) for node, activity in seen.items()},
        batch=batch,
        correct_bias=correct_bias,
    )


def normalized(node: Node) -> Node:
    """The batch normalization behind a convolution, or else the product itself."""
    return normalization_behind(node) or node


def compared(drafting: Drafting, draft: Draft, place: Callable[[Node], Node] = normalized) -> dict[str, Pair]:
    """By layer, what float and quantized network give at its product's place, before it is coded."""
    found: dict[str, Pair] = {}
    weights = {name: weight.dequantized() for name, weight in draft.plan.weights.items()}
    places = {place(p.node): p.layer for p in products(drafting.graph)}
    run = Lockstep(
        drafting.graph,
        codes=drafting.used(list(weights)),
        parameters=weights | dict(draft.biases),
        mends={node: lambda _, __, y, layer=layer: found.setdefault(layer, y) for node, layer in places.items()},
    )
    run.answers(drafting.batch)
    return found


def gaps(pair: Pair) -> Tensor:
    """How far the means of channels are off, in units of what the float layer's values spread."""
    difference = pair.exact - pair.coded
    channel = 1 if difference.dim() == 4 else difference.dim() - 1
    return (difference.movedim(channel, 0).flatten(1).mean(1) / pair.exact.std()).abs()


def error(pair: Pair) -> float:
    """Mean squared difference."""
    return float(torch.nn.functional.mse_loss(pair.coded, pair.exact))
