"""Of channels those go that are worth least, by the papers' formulas."""

import pytest
import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.methods import prune_channels
from contract.methods.prune import PruneChannels
from tests.unit.compressor.pruning.plain import IMAGES, Plain, plain


def worth(module: Plain, importance: str) -> Tensor:
    """What each channel of the first layer is worth, by the formulas."""
    first, gamma, second = module.first.weight, module.norm.weight, module.second.weight
    parts = first.flatten(1), gamma.view(-1, 1), second.transpose(0, 1).flatten(1)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(module(x), y, reduction="sum")

    def sums(of: list[Tensor]) -> Tensor:
        return torch.stack([one.sum(1) for one in of]).mean(0)

    def gradients(x: Tensor, y: Tensor) -> list[Tensor]:
        g = torch.autograd.grad(loss(x, y), [first, gamma, second])
        return [g[0].flatten(1), g[1].view(-1, 1), g[2].transpose(0, 1).flatten(1)]

    x, y = IMAGES.pixels, IMAGES.labels
    match importance:
        case "l1":
            return sums([part.abs() for part in parts])
        case "l2" | "lamp":
            return sums([part.square() for part in parts])
        case "taylor":
            return sums([(w * g).abs() for w, g in zip(parts, gradients(x, y), strict=True)])
        case "hessian":
            found = [gradients(image, label) for image, label in zip(x.split(1), y.split(1), strict=True)]
            curvature = [torch.stack([one[i].square() for one in found]).mean(0) for i in range(3)]
            return sums([w.square() * h for w, h in zip(parts, curvature, strict=True)])
        case "fisher":
            # Its answers are drawn, from the same numbers as here.
            return gated(module, x)
        case "bn_scale":
            return gamma.abs()
        case "fpgm":
            filters = first.flatten(1)
            return torch.stack([(filters - one).square().sum(1).sqrt().sum() for one in filters])
        case _:
            inner = module.first(x)
            seen = [inner, module.norm(inner)]
            return torch.stack([one.abs().mean((0, 2, 3)) for one in seen]).mean(0)


def gated(module: Plain, x: Tensor) -> Tensor:
    """Half the mean square of the derivatives by gates on what the second layer sees."""
    random, found = torch.Generator().manual_seed(0), []
    mean = module.norm(module.first(x)).relu().mean((0, 2, 3)).detach().view(-1, 1, 1)
    for batch in x.split(32):
        answers = torch.multinomial(module(batch).detach().softmax(1), 1, generator=random)[:, 0]
        for image, answer in zip(batch.split(1), answers, strict=True):
            gates = torch.ones(8, 1, 1, requires_grad=True)
            apart = module.norm(module.first(image)).relu() - mean
            logits = module.second(mean + gates * apart).mean((2, 3))
            found += torch.autograd.grad(nn.functional.cross_entropy(logits, answer.view(1)), gates)
    return torch.stack(found).flatten(1).square().mean(0) / 2


@pytest.mark.parametrize(
    "importance", ["l1", "l2", "lamp", "taylor", "hessian", "fisher", "bn_scale", "fpgm", "activation"]
)
def test_the_channels_that_go_are_those_of_least_worth_by_the_papers_formulas(importance: str) -> None:
    # Given a network of which one layer may shrink / When half of its channels go
    before = plain()
    assert isinstance(before.module, Plain)
    expected = worth(before.module, importance).argsort()[4:].sort().values
    scales = before.module.norm.weight.detach().clone()
    params = PruneChannels.model_validate({"importance": importance, "round_to": 1, "recalibrate": False})
    after = prune_channels.apply(before, params, Context(calibration=IMAGES))
    # Then those stay that are worth most
    assert isinstance(after.module, Plain)
    assert torch.equal(after.module.norm.weight, scales[expected])


def test_chance_follows_the_seed() -> None:
    params = PruneChannels(importance="random", round_to=1)
    first, again, other = (
        prune_channels.apply(plain(), params, Context(seed=seed)).module.get_parameter("norm.weight")
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
