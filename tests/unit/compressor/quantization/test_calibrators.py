"""Ranges chosen from what was seen, against the definitions written out in loops."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compressor.quantization.calibration import Activity, Tracker, tracker
from compressor.quantization.calibrators.entropy import LEVELS, divergence, least_divergent
from compressor.quantization.calibrators.histogram import HALF, Histogram
from compressor.quantization.calibrators.squared_error import least_squares
from compressor.quantization.codes import activation_code
from compressor.quantization.operators import quantize


def normal(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def counted(*batches: Tensor) -> Histogram:
    histogram = Histogram()
    for x in batches:
        histogram.see(x, (float(x.min()), float(x.max())))
    return histogram


def ranged(name: str, *batches: Tensor, percent: float = 99.0) -> tuple[float, float]:
    chosen: Tracker = tracker(name, percent=percent)  # type: ignore[arg-type]
    activity = Activity(chosen)
    for x in batches:
        activity.see(x)
    return chosen.range()


def test_a_histogram_counts_the_same_in_any_order() -> None:
    # Given batches of which each reaches farther than the one before
    batches = [normal(4000, seed) * scale for seed, scale in enumerate((0.001, 0.3, 40.0))]
    # When they are counted forwards and backwards
    forwards, backwards = counted(*batches), counted(*reversed(batches))
    # Then the bins are the same, and every value is in the one whose edges it lies between
    assert forwards.width == backwards.width
    assert torch.equal(forwards.counts, backwards.counts)
    edges = torch.arange(-HALF, HALF + 1).double() * forwards.width
    wanted, _ = torch.histogram(torch.cat(batches).double(), edges)
    assert torch.equal(forwards.counts, wanted)


def test_zeros_are_counted_apart() -> None:
    # Given activations of which half are exactly zero
    histogram = counted(normal(1000).relu(), torch.zeros(10))
    # Then these are in no bin
    assert histogram.zeros == 10 + int((normal(1000) <= 0).sum())
    assert int(histogram.counts.sum()) + histogram.zeros == 1010
    assert not histogram.counts[:HALF].any()


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_the_whole_range_holds_all_that_was_seen(values: list[float]) -> None:
    # Given batches of one value each / When the range of all is asked for / Then it is the smallest and the largest
    batches = [torch.tensor([value], dtype=torch.float64) for value in values]
    assert ranged("minmax", *batches) == (min(values), max(values))


def test_a_moving_average_follows_the_batches() -> None:
    # Given batches whose ends go from one place to another
    batches = [torch.tensor([-1.0, 1.0]), torch.tensor([-2.0, 3.0]), torch.tensor([0.0, 5.0])]
    # When their ends are averaged
    low, high = ranged("moving_average", *batches)
    # Then each batch moves the average by a tenth of the way
    assert low == pytest.approx(((-1.0) * 0.9 - 2.0 * 0.1) * 0.9)
    assert high == pytest.approx((1.0 * 0.9 + 3.0 * 0.1) * 0.9 + 5.0 * 0.1)


@pytest.mark.parametrize("percent", [90.0, 99.0, 100.0])
def test_a_percentile_leaves_out_the_same_share_at_both_ends(percent: float) -> None:
    # Given skewed values, many of them zero
    x = torch.cat([normal(20_000).exp() - 0.5, torch.zeros(5000)])
    # When the middle of them is asked for
    low, high = ranged("percentile", x, percent=percent)
    # Then its ends are the quantiles, as exactly as bins tell
    rest = (1 - percent / 100) / 2
    width = counted(x).width
    assert low == pytest.approx(float(x.quantile(rest)), abs=2 * width)
    assert high == pytest.approx(float(x.quantile(1 - rest)), abs=2 * width)


def migacz(counts: list[float], start: int, end: int) -> float:
    """The divergence as it is told in words, bin by bin."""
    p = counts[start:end]
    inside = list(p)
    p[0] += sum(counts[:start])
    p[-1] += sum(counts[end:])
    q = [0.0] * len(p)
    for level in range(LEVELS):
        bins = [i for i in range(len(p)) if i * LEVELS // len(p) == level]
        filled = [i for i in bins if p[i] > 0]
        for i in filled:
            q[i] = sum(inside[j] for j in bins) / len(filled)
    p, q = smoothed(p), smoothed(q)
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def smoothed(counts: list[float]) -> list[float]:
    empty = sum(1 for count in counts if count == 0)
    taken = 1e-4 * empty / (len(counts) - empty)
    given_ = [1e-4 if count == 0 else count - taken for count in counts]
    return [count / sum(given_) for count in given_]


def test_the_divergence_is_what_migacz_defines() -> None:
    # Given a histogram with long tails and empty bins
    counts = torch.histc(normal(50_000) ** 3, 2 * HALF, -40, 40).double()
    # When it is clipped anywhere, then the divergence is that of the definition in loops
    for start, end in ((HALF - 500, HALF + 800), (HALF - 64, HALF + 64), (0, 2 * HALF)):
        assert divergence(counts, start, end) == pytest.approx(migacz(counts.tolist(), start, end), rel=1e-9)


def test_entropy_leaves_out_a_thin_tail_and_keeps_what_is_dense() -> None:
    # Given values of a bell, and a few far away
    x = torch.cat([normal(100_000), torch.tensor([40.0, -40.0])])
    # When the range is chosen by entropy
    low, high = least_divergent(counted(x))
    # Then the bell is within it and the few are not
    assert -10 < low < -2.5
    assert 2.5 < high < 10
    # And where nothing is rare, nothing is left out
    even = torch.linspace(-1, 3, 100_000)
    assert least_divergent(counted(even)) == pytest.approx((-1, 3), rel=0.05)


def error_of(x: Tensor, ends: tuple[float, float]) -> float:
    code = activation_code(*ends)
    return float((quantize(x, code.scale, code.zero_point) - x).square().mean())


@pytest.mark.parametrize("power", [1, 3])
def test_the_least_squares_are_those_of_the_codes(power: int) -> None:
    # Given values with short tails, and with long ones
    x = normal(20_000) ** power
    whole = (float(x.min()), float(x.max()))
    found = error_of(x, least_squares(counted(x)))
    # When ranges all around are tried on the values themselves, then none is better by more than the bins hide
    parts = [part / 20 for part in range(2, 21)]
    assert found <= 1.02 * min(error_of(x, (low * whole[0], high * whole[1])) for low in parts for high in parts)
    # And the range of all values is worse
    assert found < error_of(x, whole)


@pytest.mark.parametrize("name", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_every_calibrator_keeps_a_relu_at_zero_and_knows_nothing_but_zeros(name: str) -> None:
    # Given what a ReLU gives, and what a closed one gives
    low, high = ranged(name, normal(5000).relu())
    # Then codes are spent above zero alone, and the closed one has no range
    assert low == 0
    assert 0.5 < high <= float(normal(5000).max())
    assert ranged(name, torch.zeros(8)) == (0.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_forgotten(bad: float) -> None:
    # Given a batch with a number that is none between two that are fine
    for name in ("minmax", "mse"):
        activity = Activity(tracker(name, percent=99.0))
        for x in (torch.ones(3), torch.tensor([1.0, bad]), torch.ones(3)):
            activity.see(x)
        # Then the activation is not finite
        assert not activity.extremes.finite


def test_histograms_double_their_bins_without_losing_a_count() -> None:
    # Given values of ever larger magnitude
    histogram, widths = Histogram(), []
    for power in range(-3, 5):
        x = torch.full((10,), 1.7**power)
        histogram.see(x, (float(x[0]), float(x[0])))
        widths.append(histogram.width)
    # Then bins have grown by powers of two and hold every value
    assert all((b / a).is_integer() for a, b in pairwise(widths))
    assert int(histogram.counts.sum()) == 80
