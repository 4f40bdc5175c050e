"""Chains stand for one convolution: exactly where they can, as near as can be where they cannot."""

import pytest
import torch
from torch import Tensor, nn

from compressor.lightening.chains import Way, macs
from compressor.lightening.kernels import SmallKernels
from compressor.lightening.separable import Separable
from compressor.models.parts import Convolution, built, told


def chain_of(layer: nn.Conv2d, way: Way) -> nn.Sequential:
    """The chain for one layer, with its nearest weights."""
    part = told(layer)
    assert isinstance(part, Convolution)
    chain = nn.Sequential(*map(built, way.parts(part)))
    for light, weight in zip(chain, way.weights(layer.weight, layer.groups), strict=True):
        light.weight.data = weight
    if layer.bias is not None:
        chain[-1].bias.data = layer.bias.data
    return chain


def error(layer: nn.Conv2d, chain: nn.Module, *, edge: int = 3) -> float:
    """The part of the squares of what the layer gives to noise that the chain leaves, away from the edges."""
    x = torch.randn(2, layer.in_channels, 19, 19, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = (network(x)[..., edge:-edge, edge:-edge] for network in (layer, chain))
    return float((wanted - found).square().sum() / wanted.square().sum())


def convolution(*sizes: int, **options: int) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(*sizes, **options)


def product_of(first: Tensor, second: Tensor) -> Tensor:
    """The depthwise kernel (channels, 1, 5, 5) of two of 3x3."""
    wide = nn.functional.pad(first, (2, 2, 2, 2)).transpose(0, 1)
    return nn.functional.conv2d(wide, second.flip(2, 3), groups=len(second)).transpose(0, 1)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}])
def test_as_many_filters_a_channel_as_the_kernel_has_numbers_are_exact(options: dict[str, int]) -> None:
    # Given a convolution / When each of its input channels gets nine filters of 3x3 / Then nothing is lost
    layer = convolution(6, 20, 3, **options)
    chain = chain_of(layer, Separable(9))
    assert error(layer, chain, edge=1) < 1e-10
    assert chain[0].groups == 6
    assert chain[0].stride == layer.stride


def test_a_kernel_that_is_separable_already_is_found() -> None:
    # Given a convolution that was made of a depthwise and a 1x1 one / Then its chain gives the same
    layer = convolution(6, 20, 3, padding=1)
    filters, mixing = torch.randn(6, 3, 3), torch.randn(20, 6)
    layer.weight.data = torch.einsum("oi,ihw->oihw", mixing, filters)
    assert error(layer, chain_of(layer, Separable())) < 1e-10


def test_more_filters_a_channel_lose_less() -> None:
    layer = convolution(6, 20, 3, padding=1)
    errors = [error(layer, chain_of(layer, Separable(count))) for count in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1


@pytest.mark.parametrize(("size", "groups"), [(5, 1), (7, 1), (5, 2)])
def test_a_large_kernel_becomes_small_ones_of_the_same_reach(size: int, groups: int) -> None:
    # Given a convolution of few inputs / When it becomes a chain of 3x3 / Then that is near to it
    layer = convolution(4, 24, size, padding=size // 2, groups=groups)
    chain = chain_of(layer, SmallKernels())
    assert [part.kernel_size for part in chain] == [(3, 3)] * ((size - 1) // 2)
    assert error(layer, chain) < 0.01


def test_depthwise_kernels_that_are_products_are_found() -> None:
    # Given depthwise kernels of 5x5, each the product of two smooth ones of 3x3 / When they become chains
    layer = convolution(8, 8, 5, padding=2, groups=8, stride=2)
    line = torch.tensor([1.0, 2.0, 1.0])
    noise = torch.randn(2, 8, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    layer.weight.data = product_of(*(torch.outer(line, line) + 0.5 * noise))
    # Then those two are found, or two like them
    assert error(layer, chain_of(layer, SmallKernels()), edge=2) < 1e-3


def test_macs_are_counted_where_the_stride_has_not_yet_skipped() -> None:
    # Given a 5x5 with a stride of 2 / When it is two of 3x3 / Then the first runs at four positions for one
    part = Convolution(in_channels=8, out_channels=8, kernel_size=(5, 5), stride=(2, 2), padding=(2, 2), groups=8)
    assert macs((part,)) == 25 * 8
    assert macs(SmallKernels().parts(part)) == (4 * 9 + 9) * 8


@pytest.mark.parametrize(
    ("way", "part", "reason"),
    [
        (Separable(), {"groups": 4}, "groups"),
        (Separable(1, 8), {}, "reads the image"),
        (SmallKernels(), {"kernel_size": (1, 7)}, "1x7"),
        (SmallKernels(), {"kernel_size": (5, 5), "dilation": (2, 2)}, "dilated"),
    ],
)
def test_what_a_way_is_not_for_is_said(way: Way, part: dict[str, object], reason: str) -> None:
    layer = {"in_channels": 8, "out_channels": 8, "kernel_size": (3, 3)} | part
    assert reason in (way.misfit(Convolution.model_validate(layer)) or "")
