"""AdaRound: weights are rounded up or down as it suits what their layer gives (Nagel et al. 2020, arXiv:2004.10568).

For each layer in turn, with all layers before it quantized already, the rounding is searched that keeps its outputs
nearest to the float ones (eq. 25). Exact zeros keep code 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from compressor.quantization.graph import tensor
from compressor.quantization.integers import WeightCodes
from compressor.quantization.lockstep import Lockstep, Mend, Pair
from compressor.quantization.plan import ActivationCode
from compressor.quantization.products import Product, ceiling, factor, normalization_behind, result
from compressor.quantization.soft_rounding import choice_of, rectified, regularizer

_STEPS, _RATE, _COLUMNS = 400, 0.1, 256
#: Columns of inputs that are kept of a layer.
_KEPT = 8192


@dataclass(frozen=True, eq=False)
class Task:
    """One layer's rounding: codes such that `behind(scale * codes @ x + bias)` is near to `wanted`."""

    #: float32 (groups, out / groups, features).
    weight: Tensor
    #: float32 (groups, out / groups, 1).
    scale: Tensor
    top: int
    #: Coded inputs (groups, features, columns).
    x: Tensor
    #: What the float layer gives (groups, out / groups, columns), before `behind`.
    wanted: Tensor
    #: (groups, out / groups, 1).
    bias: Tensor
    #: Batch normalization and ReLU, where they follow.
    behind: Callable[[Tensor], Tensor]

    def error(self, codes: Tensor) -> Tensor:
        """Mean squared error of the outputs with these codes, which need not be whole."""
        return self._error(codes, slice(None))

    def _error(self, codes: Tensor, columns: Tensor | slice) -> Tensor:
        y = (codes * self.scale) @ self.x[..., columns] + self.bias
        return (self.behind(y) - self.behind(self.wanted[..., columns])).square().mean()

    def solve(self, generator: torch.Generator) -> Tensor:
        """The codes found, which are not worse on these inputs than the nearest ones."""
        steps = self.weight / self.scale
        nearest = steps.round().clamp(-self.top, self.top)
        start = self.error(nearest)
        if not float(start) > 0:
            return nearest
        below = steps.floor()
        free = self.weight != 0
        choice = choice_of(steps - below).requires_grad_()
        optimizer = torch.optim.Adam([choice], lr=_RATE)
        for step in range(_STEPS):
            columns = torch.randint(self.x.shape[-1], (_COLUMNS,), generator=generator).to(self.x.device)
            up = rectified(choice) * free
            loss = self._error((below + up).clamp(-self.top, self.top), columns) / start
            loss = loss + regularizer(up[free], step / _STEPS)
            (choice.grad,) = torch.autograd.grad(loss, choice)
            optimizer.step()
        found = (below + (rectified(choice.detach()) > 0.5) * free).clamp(-self.top, self.top)
        return found if bool(self.error(found) < start) else nearest


def adapted(
    module: GraphModule, products: Mapping[Node, Product], codes: Mapping[str, WeightCodes], batch: Tensor, *,
    activations: Mapping[Node, ActivationCode], seed: int, tell: Callable[[float], None],
) -> dict[str, WeightCodes]:  # fmt: skip
    """Other codes with the same scales for the weights of these products, in one run of `batch` (N, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, WeightCodes] = {}

    def mend(product: Product) -> Mend:
        def adapt(run: Lockstep, x: Pair, y: Pair) -> Pair:
            # A weight that several operators read is rounded for the first of them.
            if product.parameter not in found:
                tell(len(found) / len(codes))
                rounded = _adapted(run.graph_module, product, codes[product.parameter], (x, y), generator)
                found[product.parameter] = rounded
                run.parameters[product.parameter] = rounded.dequantized().to(batch.device)
            return Pair(y.exact, run.again(product.node))

        return adapt

    run = Lockstep(
        module,
        codes=activations,
        parameters={name: weight.dequantized().to(batch.device) for name, weight in codes.items()},
        mends={node: mend(product) for node, product in products.items()},
    )
    run.answers(batch)
    return {name: found.get(name, weight) for name, weight in codes.items()}


def _adapted(
    module: GraphModule, product: Product, codes: WeightCodes, seen: tuple[Pair, Pair], generator: torch.Generator
) -> WeightCodes:
    with torch.enable_grad():
        chosen = _task(module, product, codes, seen, generator).solve(generator)
    return replace(codes, codes=chosen.reshape(codes.codes.shape).to("cpu", torch.int8))


def _task(
    module: GraphModule, product: Product, codes: WeightCodes, seen: tuple[Pair, Pair], generator: torch.Generator
) -> Task:
    x, y = seen
    weight = module.get_parameter(product.parameter).detach().float()
    groups = _groups(product)
    inputs, wanted = _columns(product, x.coded, y.exact, generator)

    def grouped(values: Tensor) -> Tensor:
        return values.to(weight.device).expand(len(weight)).reshape(groups, -1, 1)

    bias = tensor(module, product.node.args[2]) if len(product.node.args) > 2 else None
    return Task(
        weight=weight.reshape(groups, len(weight) // groups, -1),
        scale=grouped(codes.scale),
        top=2 ** (codes.bits - 1) - 1,
        x=inputs,
        wanted=wanted,
        bias=grouped(weight.new_zeros(1) if bias is None else bias.detach()),
        behind=_behind(module, product, grouped),
    )


def _groups(product: Product) -> int:
    return int(product.node.args[6]) if len(product.node.args) > 6 else 1  # type: ignore[arg-type]


def _columns(product: Product, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A sample of inputs (groups, features, columns), and their outputs (groups, out / groups, columns)."""
    if product.kind == "linear":
        inputs, outputs = x.flatten(0, -2), y.flatten(0, -2)
        taken = torch.randperm(len(inputs), generator=generator)[:_KEPT].to(x.device)
        return inputs[taken].T.unsqueeze(0), outputs[taken].T.unsqueeze(0)
    groups, places = _groups(product), y.shape[2] * y.shape[3]
    each = min(places, -(-_KEPT // len(x)))
    parts = []
    for image, given in zip(x, y, strict=True):
        taken = torch.randperm(places, generator=generator)[:each].to(x.device)
        parts.append((_unfolded(product, image)[:, taken], given.flatten(1)[:, taken]))
    inputs, outputs = (torch.cat(side, dim=1) for side in zip(*parts, strict=True))
    return inputs.reshape(groups, -1, inputs.shape[1]), outputs.reshape(groups, -1, outputs.shape[1])


def _unfolded(product: Product, image: Tensor) -> Tensor:
    """What the kernel sees of an image (C, H, W) at each place: (C * height * width of the kernel, places)."""
    given, usual = product.node.args[3:6], ((1, 1), (0, 0), (1, 1))
    stride, padding, dilation = (given[n] if n < len(given) else usual[n] for n in range(3))
    kernel = product.node.args[1].meta["val"].shape[2:]  # type: ignore[union-attr]
    return F.unfold(image.unsqueeze(0), kernel, dilation, padding, stride)[0]  # type: ignore[arg-type]


def _behind(module: GraphModule, product: Product, grouped: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    normalization, last = normalization_behind(product.node), result(product.node)
    scale, shift = torch.ones(1), torch.zeros(1)
    if normalization is not None:
        beta, mean = (tensor(module, part) for part in normalization.args[2:4])
        assert mean is not None
        scale = factor(module, normalization)
        shift = -mean * scale if beta is None else beta.detach() - mean * scale
    scale, shift = grouped(scale), grouped(shift)
    if last in (product.node, normalization):
        return lambda y: y * scale + shift
    top = ceiling(last)
    return lambda y: (y * scale + shift).clamp(0, top)
