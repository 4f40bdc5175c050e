"""Each scheme's numbers are what its paper says, and the nearest of them stands for a weight."""

import itertools

import pytest
import torch
from torch import Tensor

from compressor.quantization.fitting import Form, encoded
from compressor.quantization.kmeans import centers
from compressor.quantization.levels import LevelCodes, nearest
from contract.methods.low_bit import Scheme

#: Every scheme with the bits it is good for.
SCHEMES = [
    (Scheme.SYMMETRIC, 8),
    (Scheme.SYMMETRIC, 4),
    (Scheme.SYMMETRIC, 2),
    (Scheme.ASYMMETRIC, 4),
    (Scheme.ASYMMETRIC, 1),
    (Scheme.POWER_OF_TWO, 4),
    (Scheme.CODEBOOK, 5),
    (Scheme.FOUR_LEVEL, 2),
    (Scheme.TERNARY, 2),
    (Scheme.BINARY, 1),
]
GROUPED = [
    (scheme, bits, group)
    for (scheme, bits), group in itertools.product(SCHEMES, (None, 8, 25))
    if scheme is not Scheme.CODEBOOK or group is None
]


def weight(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.1


def grids(codes: LevelCodes) -> Tensor:
    """Every number that each weight could have become, (channels, columns, levels), from the parts alone."""
    rows = codes.codes.flatten(1)
    group = torch.arange(rows.shape[1]) // (codes.group or rows.shape[1])
    scale = torch.ones(rows.shape[0], 1) if codes.scale is None else codes.scale.float()
    zero = torch.zeros_like(scale) if codes.zero is None else codes.zero.float()
    scale, zero = (part.expand(-1, int(group.max()) + 1)[:, group].unsqueeze(2) for part in (scale, zero))
    return (codes.levels - zero) * scale


@pytest.mark.parametrize(("scheme", "bits", "group"), GROUPED)
def test_every_weight_becomes_the_nearest_number_that_it_can(scheme: Scheme, bits: int, group: int | None) -> None:
    # Given a weight / When it is coded
    w = weight()
    codes = encoded(w, Form(scheme, bits, group))
    # Then there are no more levels than bits tell apart, and each weight is at the nearest
    assert len(codes.levels) <= 2**bits
    assert codes.codes.shape == w.shape
    distances = (grids(codes) - w.flatten(1).unsqueeze(2)).abs()
    reached = (codes.dequantized() - w).abs().flatten(1)
    assert torch.allclose(reached, distances.amin(2), atol=1e-6)


@pytest.mark.parametrize(("scheme", "bits", "group"), GROUPED)
def test_pruned_weights_stay_zero_and_count_for_nothing(scheme: Scheme, bits: int, group: int | None) -> None:
    # Given a weight of which a half is pruned, huge where it is
    kept = torch.rand(6, 4, 3, 3, generator=torch.Generator().manual_seed(1)) > 0.5
    w = torch.where(kept, weight(), 100.0)
    # When it is coded
    codes = encoded(w, Form(scheme, bits, group), kept=kept)
    # Then zeros are exact, and what is kept is coded as if there were nothing else
    assert not codes.dequantized()[~kept].any()
    assert float((codes.dequantized() - w)[kept].abs().max()) < 0.4


@pytest.mark.parametrize(("scheme", "bits", "group"), GROUPED)
def test_a_weight_of_zeros_can_be_coded(scheme: Scheme, bits: int, group: int | None) -> None:
    # Given a layer that does nothing / When it is coded / Then next to nothing comes of it
    assert encoded(torch.zeros(4, 3, 3, 3), Form(scheme, bits, group)).dequantized().abs().max() < 1e-6


def test_the_binary_scale_is_the_mean_magnitude() -> None:
    # Given a weight / When it is binary
    codes = encoded(weight(), Form(Scheme.BINARY, 1))
    # Then it is the mean magnitude of each channel, with the sign (Rastegari et al. 2016, equation 6)
    mean = weight().abs().mean((1, 2, 3), keepdim=True)
    assert torch.allclose(codes.dequantized(), torch.where(weight() > 0, mean, -mean))


def test_the_ternary_threshold_is_that_of_the_paper() -> None:
    # Given a weight / When it is ternary
    w = weight()
    codes = encoded(w, Form(Scheme.TERNARY, 2))
    # Then the scale is the mean of what exceeds 0.7 of the mean magnitude (Li et al. 2016, equations 5 and 6)
    assert codes.scale is not None
    for channel, scale in zip(w, codes.scale.flatten(), strict=True):
        sizes = channel.abs()
        assert torch.isclose(scale, sizes[sizes > 0.7 * sizes.mean()].mean())


def test_four_levels_of_a_normal_weight_are_those_of_lloyd_and_max() -> None:
    # Given a large normal weight / When it gets four levels, evenly spaced
    codes = encoded(torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0)), Form(Scheme.FOUR_LEVEL, 2))
    # Then their distance is 0.9957 of the standard deviation (Max 1960, table II)
    assert codes.scale is not None
    assert 2 * float(codes.scale) == pytest.approx(0.9957, abs=0.005)


def test_powers_of_two_are_powers_of_two_with_their_scale() -> None:
    # Given a weight / When it is coded in powers of two / Then every one that is not zero is one, scale included
    values = encoded(weight(), Form(Scheme.POWER_OF_TWO, 4)).dequantized()
    exponents = values[values != 0].abs().log2()
    assert torch.equal(exponents, exponents.round())


def test_clipping_lowers_the_squared_error() -> None:
    # Given a weight with one outlier in each channel
    w = weight()
    w[:, 0, 0, 0] = 1.0
    for scheme in (Scheme.SYMMETRIC, Scheme.ASYMMETRIC):
        # When it is coded with and without clipping / Then the error is less with it
        plain, clipped = (encoded(w, Form(scheme, 3, clipped=c)).dequantized() for c in (False, True))
        assert float((clipped - w).square().sum()) < 0.95 * float((plain - w).square().sum())


def test_effective_bits_count_what_lies_beside_the_codes() -> None:
    # Given 36 weights in each channel / When they are coded in 4 bits
    by_channel, by_group = (encoded(weight(), Form(Scheme.ASYMMETRIC, 4, group)) for group in (None, 12))
    # Then a channel's scale of 32 bits counts, or three of 16, and zero points of 8
    assert by_channel.size_bits / 216 == pytest.approx(4 + (32 + 8) / 36)
    assert by_group.size_bits / 216 == pytest.approx(4 + 3 * (16 + 8) / 36)
    # And five ternary weights share a byte, while a codebook has 32 bits for each level
    assert encoded(weight(), Form(Scheme.TERNARY, 2)).size_bits / 216 == pytest.approx(1.6 + 32 / 36)
    assert encoded(weight(), Form(Scheme.CODEBOOK, 3)).size_bits / 216 == pytest.approx(3 + 8 * 32 / 216)


def test_integer_kernels_can_have_what_is_symmetric_by_channel() -> None:
    # Given the forms of a weight / Then that one alone has integers, and they mean the same
    codes = encoded(weight(), Form(Scheme.SYMMETRIC, 4))
    assert codes.integers is not None
    assert int(codes.integers.codes.abs().max()) == 7
    assert torch.equal(codes.integers.dequantized(), codes.dequantized())
    assert encoded(weight(), Form(Scheme.SYMMETRIC, 4, 12)).integers is None
    assert encoded(weight(), Form(Scheme.CODEBOOK, 4)).integers is None


def test_k_means_ends_where_no_center_can_be_better() -> None:
    # Given three heaps of numbers / When three centers are looked for / Then they are the heaps' means
    heaps = [
        torch.randn(500, generator=torch.Generator().manual_seed(i)) * 0.01 + at for i, at in enumerate((-1, 0, 2))
    ]
    found = centers(torch.cat(heaps), 3)
    assert torch.allclose(found, torch.stack([heap.mean() for heap in heaps]), atol=1e-4)
    # And each center of any weight is the mean of what is nearest to it
    values = weight().flatten()
    found = centers(values, 7)
    assigned = nearest(values, found)
    means = torch.stack([values[assigned == number].mean() for number in range(7)])
    assert torch.allclose(found, means, atol=1e-5)


def test_equal_numbers_need_one_center() -> None:
    # Given one number many times, or none at all / When centers are looked for / Then they are found
    assert torch.allclose(centers(torch.full((10,), 0.5), 4), torch.full((4,), 0.5))
    assert centers(torch.zeros(0), 2).shape == (2,)
