"""What is left of a narrowed network gives nearly what the whole one gave."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compressor.fitting import Reconstruction
from compressor.measure.counting import evaluating
from compressor.models.torchvision_ops import torchvision
from compressor.pruning.channels import Narrowed, Pruning, Target, narrow
from compressor.pruning.reconstruction import Goal, reconstruct
from contract.methods.prune import PruneChannels
from tests.unit.compressor.pruning.architectures import stirred

X = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def halved(module: nn.Module, x: Tensor = X, **asked: object) -> Narrowed:
    params = PruneChannels.model_validate({"ratio": 0.5, "round_to": 1, **asked})
    return narrow(module, Pruning(params=params, example=x[:1], target=Target(None, 0.5)))


def made_up_for(narrowed: Narrowed, original: nn.Module, x: Tensor = X) -> Reconstruction:
    return fitted(narrowed, Goal(original).behind(narrowed), x)


def fitted(narrowed: Narrowed, goal: Goal, x: Tensor = X) -> Reconstruction:
    shape = (x.shape[1], x.shape[2], x.shape[3])
    return reconstruct(narrowed, goal, lambda: x.split(16), input_shape=shape, seed=0, tell=lambda done: None)


def error(module: nn.Module, original: nn.Module, x: Tensor = X) -> float:
    """Squares of the difference of the answers, as a part of those of their spread."""
    with evaluating(module), evaluating(original):
        wanted, given = original(x), module(x)
    return float((wanted - given).square().sum() / (wanted - wanted.mean(0)).square().sum())


def twins(groups: int = 1) -> nn.Sequential:
    """A network of which the second half of a layer gives twice what the first half gives."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, groups=groups)
    for half in (first.weight.data.view(groups, 2, -1, 3, 3, 3), first.bias.data.view(groups, 2, -1)):  # type: ignore[union-attr]
        half[:, 1] = 2 * half[:, 0]
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


@pytest.mark.parametrize("groups", [1, 2])
def test_channels_that_others_tell_are_made_up_for(groups: int) -> None:
    # Given a layer of which half of the channels can be told from the others / When that half goes
    original = twins(groups)
    narrowed = halved(original, exclude=("2",)) if groups == 1 else halved(original)
    dropped = error(narrowed.module, original)
    # And the next layer is fitted
    found = made_up_for(narrowed, original)
    # Then next to nothing is lost there
    assert found.fits["2"].before > 0.1
    assert found.fits["2"].after < 0.01
    assert error(narrowed.module, original) < dropped


def test_what_is_narrowed_twice_is_fitted_to_what_there_was_at_first() -> None:
    # Given a network that has lost channels of every layer, is fitted, and loses others
    original = twins()
    once = halved(original)
    goal = Goal(original).behind(once)
    fitted(once, goal)
    twice = halved(once.module)
    # When it is fitted to the network as it was at first / Then the outputs that are left are those of the same numbers
    goal = goal.behind(twice)
    found = fitted(twice, goal)
    last = {name: numbers.tolist() for name, numbers in goal.outputs.items()}
    assert (len(last["0"]), len(last["2"]), last["6"]) == (2, 2, [0, 1, 2, 3])
    kept = {name: once.outputs[name][twice.outputs[name]] for name in ("0", "2")}
    assert [last[name] for name in kept] == [numbers.tolist() for numbers in kept.values()]
    assert torch.equal(twice.module.get_parameter("0.weight"), original.get_parameter("0.weight")[kept["0"]])
    # And the error that is told is the distance to it
    assert found.fits["6"].after == pytest.approx(distance(twice.module, original), rel=0.05)


def distance(module: nn.Module, original: nn.Module) -> float:
    """Squares of the difference of the answers, as a part of theirs."""
    with evaluating(module), evaluating(original):
        wanted, given = original(X), module(X)
    return float((wanted - given).square().sum() / wanted.square().sum())


def test_only_layers_that_have_lost_inputs_are_fitted() -> None:
    # Given a network of which one layer is narrower
    original = twins()
    narrowed = narrow(
        original,
        Pruning(params=PruneChannels(round_to=1), example=X[:1], fixed=("2", "6"), target=Target(None, 0.5)),
    )
    # When it is reconstructed / Then that is the one behind it, and nothing of the others has changed
    assert set(made_up_for(narrowed, original).fits) == {"2"}
    assert torch.equal(narrowed.module.get_parameter("6.weight"), original.get_parameter("6.weight"))
    assert torch.equal(narrowed.module.get_parameter("0.weight"), original.get_parameter("0.weight")[4:])


class Same(nn.Conv2d):
    """Pads what it sees itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


def test_a_layer_that_does_more_than_multiply_is_left() -> None:
    # Given a network with a layer of a kind of its own / When the one before it is narrower
    original = twins()
    original[2] = Same(8, 6, 3)
    narrowed = halved(original)
    weight = narrowed.module.get_parameter("2.weight").clone()
    # Then it stays, and what lies behind it is fitted
    found = made_up_for(narrowed, original)
    assert set(found.fits) == {"6"}
    assert found.left == ("2",)
    assert torch.equal(narrowed.module.get_parameter("2.weight"), weight)


def test_a_layer_that_sees_too_much_at_once_is_told_and_left() -> None:
    # Given a linear layer behind 7,200 numbers that are left
    torch.manual_seed(0)
    original = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 60 * 60, 2))
    x = torch.randn(4, 3, 60, 60)
    narrowed = halved(original, x)
    weight = narrowed.module.get_parameter("3.weight").clone()
    # When it is reconstructed / Then it stays
    found = made_up_for(narrowed, original, x)
    assert found.left == ("3",)
    assert not found.fits
    assert torch.equal(narrowed.module.get_parameter("3.weight"), weight)


def of_torchvision() -> nn.Module:
    transformer = torchvision().models.VisionTransformer
    return transformer(8, 4, 2, 4, 32, 64, num_classes=4)  # type: ignore[no-any-return]


def of_timm() -> nn.Module:
    torchvision()
    from timm.models import VisionTransformer

    return VisionTransformer(8, 4, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=4)


#: A transformer of each library, with the layers that take what heads and hidden features give.
TRANSFORMERS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "torchvision": (
        of_torchvision,
        {f"encoder.layers.encoder_layer_{n}.{layer}" for n in (0, 1) for layer in ("self_attention.out_proj", "mlp.3")},
    ),
    "timm": (
        of_timm,
        {f"blocks.{n}.{layer}" for n in (0, 1) for layer in ("attn.proj", "mlp.fc2")},
    ),
}


@pytest.mark.parametrize("library", TRANSFORMERS)
def test_transformers_make_up_for_heads_and_hidden_features(library: str) -> None:
    # Given a vision transformer, whose attention is torch's own or timm's
    make, takers = TRANSFORMERS[library]
    torch.manual_seed(0)
    original = stirred(make(), X)
    # When half of its heads and of its hidden features go, and what is left is fitted
    narrowed = halved(original)
    dropped = error(narrowed.module, original)
    found = made_up_for(narrowed, original)
    # Then the layers that take what is left give more nearly what they gave, and so does the network
    assert set(found.fits) == takers
    assert all(fit.after < fit.before for fit in found.fits.values())
    assert error(narrowed.module, original) < 0.8 * dropped
