"""Scales, zero points and codebooks that fit a weight, by scheme.

Rows are output channels, columns what is left of the weight's shape in its order; a group is some columns of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from compressor.quantization.integers import SCALE_OF_NOTHING
from compressor.quantization.kmeans import centers
from compressor.quantization.levels import LevelCodes, by_column, levels_of, nearest
from contract.methods.low_bit import Scheme

#: Parts of the largest weight at which a clipped scale may end.
_CLIPS = tuple(1 - step / 20 for step in range(14))
#: Turns of assigning weights to levels and fitting the scale to them.
_TURNS = 10
#: Of the mean magnitude: what a ternary weight must exceed not to become zero (Li et al. 2016, equation 6).
_TERNARY_THRESHOLD = 0.7


@dataclass(frozen=True)
class Form:
    """How a weight shall be coded."""

    scheme: Scheme
    bits: int
    group: int | None = None
    clipped: bool = False


@dataclass(frozen=True)
class Grid:
    """The numbers that the weights of each group can become."""

    levels: Tensor
    scale: Tensor | None = None
    zero: Tensor | None = None
    group: int | None = None

    def codes(self, rows: Tensor) -> Tensor:
        """uint8 codes of the nearest levels to weights (channels, columns)."""
        targets = rows
        if self.scale is not None:
            targets = targets / by_column(self.scale, self.group, rows.shape[1])
        if self.zero is not None:
            targets = targets + by_column(self.zero, self.group, rows.shape[1])
        return nearest(targets, self.levels)


def encoded(weight: Tensor, form: Form, *, kept: Tensor | None = None) -> LevelCodes:
    """The codes of a weight (channels, ...), each at its nearest level; where `kept` is false they mean zero."""
    rows = weight.detach().to("cpu", torch.float32).flatten(1)
    mask = None if kept is None else kept.cpu().flatten(1)
    grid = fitted(rows, form, kept=mask)
    return coded(grid.codes(rows), grid, form, shape=weight.shape, kept=mask)


def coded(codes: Tensor, grid: Grid, form: Form, *, shape: torch.Size, kept: Tensor | None) -> LevelCodes:
    """Codes (channels, columns) with the grid that they are of; where `kept` is false they become those of zero."""
    if kept is not None:
        codes = torch.where(kept, codes, grid.codes(torch.zeros_like(codes, dtype=torch.float32)))
    return LevelCodes(
        scheme=form.scheme,
        bits=form.bits,
        codes=codes.view(shape),
        levels=grid.levels,
        scale=grid.scale,
        zero=grid.zero,
        group=grid.group,
    )


def fitted(rows: Tensor, form: Form, *, kept: Tensor | None = None) -> Grid:
    """The grid that fits weights (channels, columns); zero is on it where not all is `kept`, and only that counts."""
    pruned = kept is not None and not bool(kept.all())
    counted = torch.ones_like(rows, dtype=torch.bool) if kept is None else kept
    rows = rows * counted
    if form.scheme is Scheme.CODEBOOK:
        return Grid(_codebook(rows[counted], form.bits, pruned=pruned))
    levels = levels_of(form.scheme, form.bits, pruned=pruned)
    groups, there = _grouped(rows, form.group), _grouped(counted, form.group)
    grid = _FITS[form.scheme](groups, there, levels, form)
    return replace(grid, group=form.group, scale=_stored(grid.scale, form.group))


def refitted(weight: Tensor, codes: LevelCodes, *, kept: Tensor | None = None) -> LevelCodes:
    """The codes of a weight on the grid of `codes`, and the scale or codebook that then has the least squared error."""
    rows = weight.to("cpu", torch.float32).flatten(1)
    grid = Grid(codes.levels, codes.scale, codes.zero, codes.group)
    mask = None if kept is None else kept.flatten(1)
    form = Form(codes.scheme, codes.bits, codes.group)
    found = coded(grid.codes(rows), grid, form, shape=weight.shape, kept=mask)
    counted = torch.ones_like(rows) if mask is None else mask.float()
    if codes.scheme is Scheme.CODEBOOK:
        return replace(found, levels=_centered(rows, found, pinned=mask is not None))
    if codes.scheme is Scheme.POWER_OF_TWO or codes.scale is None:
        return found
    return replace(found, scale=_stored(_scaled(rows * counted, found, counted), codes.group))


def _centered(rows: Tensor, codes: LevelCodes, *, pinned: bool) -> Tensor:
    """Each level in the middle of the weights that have it; with `pinned`, the first stays zero."""
    members, values = codes.codes.flatten().long(), rows.flatten().double()
    sums = torch.zeros(len(codes.levels), dtype=torch.float64).index_add_(0, members, values)
    sizes = torch.bincount(members, minlength=len(codes.levels))
    found = torch.where(sizes > 0, (sums / sizes.clamp_min(1)).float(), codes.levels)
    return torch.cat([codes.levels[:1], found[1:]]) if pinned and float(codes.levels[0]) == 0 else found


def _scaled(rows: Tensor, codes: LevelCodes, counted: Tensor) -> Tensor:
    """<w, v> / <v, v> for the weights w and the levels v of each group."""
    values = codes.levels[codes.codes.flatten(1).long()]
    if codes.zero is not None:
        values = values - by_column(codes.zero, codes.group, values.shape[1])
    w, v = _grouped(rows, codes.group), _grouped(values * counted, codes.group)
    squares = v.square().sum(2)
    assert codes.scale is not None
    old = codes.scale.float()
    found = (w * v).sum(2) / squares.clamp_min(1e-12)
    # A group whose weights are all at zero, or that would turn around, keeps what it has.
    return torch.where((squares > 0) & (found > 0), found, old)


def _stored(scale: Tensor | None, group: int | None) -> Tensor | None:
    """A scale as it is kept: groups are small, so theirs have 16 bits."""
    return scale if scale is None or group is None else scale.to(torch.bfloat16)


def _codebook(weights: Tensor, bits: int, *, pruned: bool) -> Tensor:
    """The levels that k-means finds; the first is zero where weights are pruned."""
    count = 2**bits - pruned
    found = centers(weights, count)
    return torch.cat([torch.zeros(1), found]) if pruned else found


def _grouped(rows: Tensor, group: int | None) -> Tensor:
    """(channels, columns) as (channels, groups, columns of a group), the last group filled up with zeros."""
    if group is None:
        return rows.unsqueeze(1)
    return F.pad(rows, (0, -rows.shape[1] % group)).view(rows.shape[0], -1, group)


#: From weights by group, which of them count, the levels and what was asked for, to a grid without its group's size.
_Fit = Callable[[Tensor, Tensor, Tensor, Form], Grid]


def _symmetric(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    del there
    largest = groups.abs().amax(2)
    scale = _filled(largest / levels.max())
    return Grid(levels, _least(groups, levels, [scale * clip for clip in _CLIPS]) if form.clipped else scale)


def _asymmetric(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    del there
    low, high = groups.amin(2).clamp(max=0), groups.amax(2).clamp(min=0)
    whole = _spanning(low, high, levels)
    if not form.clipped:
        return Grid(levels, *whole)
    tried = [_spanning(low * clip, high * clip, levels) for clip in _CLIPS]
    errors = torch.stack([_error(groups, levels, scale, zero) for scale, zero in tried])
    best = errors.argmin(0, keepdim=True)
    scale, zero = (torch.stack(parts).gather(0, best)[0] for parts in zip(*tried, strict=True))
    return Grid(levels, scale, zero)


def _spanning(low: Tensor, high: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point with which the levels reach from `low` to `high`."""
    top = float(levels.max())
    scale = _filled((high - low) / top)
    return scale, (-low / scale).round().clamp(0, top).to(torch.uint8)


def _power_of_two(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    """The scale is a power of two itself, so that multiplying is shifting."""
    del there, form
    highest = 2.0 ** _filled(groups.abs().amax(2)).log2().ceil()
    return Grid(levels, _least(groups, levels, [highest, highest / 2, highest / 4]))


def _ternary(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    """Zero up to a threshold, and behind it the mean of what exceeds it (Li et al. 2016, equations 5 and 6)."""
    del form
    threshold = _TERNARY_THRESHOLD * _mean(groups.abs(), there)
    return Grid(levels, _filled(_mean(groups.abs(), groups.abs() > threshold.unsqueeze(2))))


def _four_level(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    """The scale with the least squared error, from half the mean magnitude on (Lloyd 1982)."""
    del form
    sizes = groups.abs()
    scale = _filled(_mean(sizes, there) / 2)
    for _ in range(_TURNS):
        values = torch.where(sizes > 2 * scale.unsqueeze(2), 3.0, 1.0) * there
        scale = _filled((sizes * values).sum(2) / values.square().sum(2).clamp_min(1.0))
    return Grid(levels, scale)


def _binary(groups: Tensor, there: Tensor, levels: Tensor, form: Form) -> Grid:
    """The mean magnitude (Rastegari et al. 2016, equation 6)."""
    del form
    return Grid(levels, _filled(_mean(groups.abs(), there)))


_FITS: dict[Scheme, _Fit] = {
    Scheme.SYMMETRIC: _symmetric,
    Scheme.ASYMMETRIC: _asymmetric,
    Scheme.POWER_OF_TWO: _power_of_two,
    Scheme.TERNARY: _ternary,
    Scheme.FOUR_LEVEL: _four_level,
    Scheme.BINARY: _binary,
}


def _mean(values: Tensor, there: Tensor) -> Tensor:
    """The mean over each group of those values that are there."""
    return (values * there).sum(2) / there.sum(2).clamp_min(1)


def _filled(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.full_like(scale, SCALE_OF_NOTHING))


def _error(groups: Tensor, levels: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """The sum of squared errors of each group."""
    wide = scale.unsqueeze(2)
    shift = 0.0 if zero is None else zero.unsqueeze(2).float()
    values = (levels[nearest(groups / wide + shift, levels).long()] - shift) * wide
    return (groups - values).square().sum(2)


def _least(groups: Tensor, levels: Tensor, scales: list[Tensor]) -> Tensor:
    """Of several scales, for each group the one with the least squared error."""
    errors = torch.stack([_error(groups, levels, scale) for scale in scales])
    return torch.stack(scales).gather(0, errors.argmin(0, keepdim=True))[0]
