"""Weights rounded as it suits what their layer gives."""

import itertools

import pytest
import torch
from torch import Tensor

from compressor.quantization.drafting import Drafting
from compressor.quantization.plan import WeightCodes
from compressor.quantization.products import products, result
from compressor.quantization.rounding import Task, adapted
from tests.unit.compressor.networks import residual
from tests.unit.compressor.quantization.drafts import compared, drafting_of, error


def rounded(drafting: Drafting, seed: int = 0) -> dict[str, WeightCodes]:
    return adapted(
        drafting.graph,
        {product.node: product for product in products(drafting.graph)},
        drafting.codes,
        drafting.batch,
        activations=drafting.used(list(drafting.codes)),
        seed=seed,
        tell=lambda _: None,
    )


def test_every_layer_gives_what_is_nearer_to_the_float_ones() -> None:
    # Given a network with each kind of layer, whose weights have three bits
    nearest = drafting_of(residual())
    # When their rounding is adapted
    drafting = nearest.with_codes(rounded(nearest))
    # Then scales are the same, and codes are those below or above
    for name, codes in drafting.codes.items():
        weight, scale = (
            nearest.graph.get_parameter(name).detach(),
            codes.scale.reshape(-1, *[1] * (codes.codes.dim() - 1)),
        )
        assert torch.equal(codes.scale, nearest.codes[name].scale)
        assert bool(((codes.codes - weight / scale).abs() < 1.001).all())
        assert int(codes.codes.abs().max()) <= 3
    # And what the network gives is far nearer, and what no layer gives is worse
    before, after = (compared(one, one.draft(list(one.codes)), result) for one in (nearest, drafting))
    assert error(after["head"]) < 0.2 * error(before["head"])
    assert all(error(after[layer]) < 1.01 * error(before[layer]) for layer in before)


def test_pruned_weights_keep_code_zero_and_the_same_seed_gives_the_same_codes() -> None:
    # Given pruned weights
    candidate = residual()
    mask = torch.rand(candidate.module.project[0].weight.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    candidate.module.project[0].weight.data.mul_(mask)
    drafting = drafting_of(candidate)
    # When their rounding is adapted twice
    first, second = rounded(drafting), rounded(drafting)
    # Then what is zero has code zero, and both times the codes are the same
    assert not first["project.0.weight"].codes[~mask].any()
    assert all(torch.equal(first[name].codes, second[name].codes) for name in first)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_task_is_solved_as_well_as_by_trying_all_roundings(seed: int) -> None:
    # Given one channel of six weights, and inputs that hang together, as images do
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, 1, 6, generator=generator)
    mixed = torch.randn(1, 6, 6, generator=generator) @ torch.randn(1, 6, 2000, generator=generator)
    task = task_of(weight, mixed + 0.3 * torch.randn(1, 6, 2000, generator=generator), scale=0.5)
    # When the rounding is searched, and all 64 are tried
    found = float(task.error(task.solve(generator)))
    below = (weight / 0.5).floor()
    ups = (torch.tensor(up).reshape(1, 1, 6) for up in itertools.product((0.0, 1.0), repeat=6))
    every = sorted(float(task.error(below + up)) for up in ups)
    # Then it is one of the three best, and none better than the nearest codes is missed
    assert found <= every[2] + 1e-6
    assert found <= float(task.error((weight / 0.5).round())) + 1e-6


def task_of(weight: Tensor, x: Tensor, *, scale: float) -> Task:
    zero = torch.zeros(1, 1, 1)
    return Task(weight, zero + scale, 7, x, weight @ x, zero, lambda y: y)


def test_a_zero_stays_where_rounding_it_up_would_make_up_for_all() -> None:
    # Given a weight that lies beyond the last code, and a pruned one that sees as much as it lacks
    x = torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(0))
    task = task_of(torch.tensor([[[0.0, 3.75]]]), torch.cat([x / 2, x], dim=1), scale=0.5)
    assert float(task.error(torch.tensor([[[1.0, 7.0]]]))) == pytest.approx(0, abs=1e-9)
    # When the rounding is searched, then the pruned one has code 0
    assert float(task.solve(torch.Generator().manual_seed(0))[0, 0, 0]) == 0
