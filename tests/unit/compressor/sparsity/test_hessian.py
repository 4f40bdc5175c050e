"""What is cut costs as little as it can, and what is left makes up for it."""

import pytest
import torch
from torch import Tensor

from compressor.inputs import damped
from compressor.least_squares import fitted
from compressor.sparsity.amounts import cubic
from compressor.sparsity.hessian import Choose, operated


def hessian(features: int, samples: int, groups: int = 1) -> Tensor:
    """H of features that depend on each other, as those of a network do."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.eye(features) + 0.3 * torch.randn(groups, features, features, generator=generator)
    x = mixing @ torch.randn(groups, features, samples, generator=generator)
    return damped(x @ x.transpose(1, 2))


def weight(outputs: int, features: int, groups: int = 1) -> Tensor:
    return torch.randn(groups, outputs, features, generator=torch.Generator().manual_seed(9))


def lowest(amount: float, allowed: Tensor | None = None) -> Choose:
    """Cuts the lowest scores of all."""

    def choose(scores: Tensor, done: float) -> Tensor:
        flat = (scores if allowed is None else scores * allowed).flatten()
        kept = torch.ones_like(flat, dtype=torch.bool)
        kept[flat.argsort()[: round(cubic(amount, done) * len(flat))]] = False
        return kept.view(scores.shape)

    return choose


def output_error(w: Tensor, other: Tensor, h: Tensor) -> float:
    """What of a weight's output another one loses, as a part of its sum of squares."""
    difference = w - other
    return float(((difference @ h) * difference).sum() / ((w @ h) * w).sum())


def best_within(w: Tensor, kept: Tensor, h: Tensor) -> Tensor:
    """The least squares solution for every output, by the normal equations of its support."""
    found = torch.zeros_like(w)
    for group, output in torch.cartesian_prod(torch.arange(w.shape[0]), torch.arange(w.shape[1])).tolist():
        support = kept[group, output].nonzero().flatten()
        own = h[group].double()
        solved = torch.linalg.solve(own[support][:, support], (own @ w[group, output].double())[support])
        found[group, output, support] = solved.float()
    return found


@pytest.mark.parametrize("samples", [3, 200])
@pytest.mark.parametrize("groups", [1, 3])
def test_what_is_left_is_the_least_squares_solution(samples: int, groups: int) -> None:
    # Given a mask, and fewer or more samples than features
    w, h = weight(6, 20, groups), hessian(20, samples, groups)
    kept = torch.rand(groups, 6, 20, generator=torch.Generator().manual_seed(2)) < 0.5
    # When the rest is fitted
    found = fitted(w, kept, h, start=w * kept, steps=200)
    # Then no other weights within the mask come nearer to the output
    best = best_within(w, kept, h)
    assert output_error(w, found, h) == pytest.approx(output_error(w, best, h), rel=1e-3, abs=1e-6)
    assert not found[~kept].any()


@pytest.mark.parametrize("amount", [0.5, 0.6, 0.8])
def test_it_loses_far_less_than_cutting_by_magnitude_even_with_the_rest_fitted(amount: float) -> None:
    # Given a layer with dependent inputs
    w, h = weight(32, 64), hessian(64, 500)
    found, kept = operated(w, h, lowest(amount))
    # When that is compared with cutting the smallest weights, and those with the least pull, and fitting the rest
    by_magnitude = lowest(amount)(w.abs(), 1.0)
    by_pull = lowest(amount)(w.abs() * h.diagonal(dim1=1, dim2=2).sqrt().unsqueeze(1), 1.0)
    others = [output_error(w, best_within(w, mask, h), h) for mask in (by_magnitude, by_pull)]
    # Then as many are zero, and it loses less than three quarters of either
    assert int((~kept).sum()) == round(amount * kept.numel())
    assert output_error(w, found, h) < 0.75 * min(others)


def test_the_one_weight_that_goes_costs_nearly_the_least() -> None:
    # Given outputs of six weights, of which one each shall go
    w, h = weight(20, 6), hessian(6, 60)

    def one_each(scores: Tensor, done: float) -> Tensor:
        return torch.ones_like(scores, dtype=torch.bool).scatter_(2, scores.argmin(2, keepdim=True), value=False)

    found, _ = operated(w, h, one_each)
    # When every choice is tried for every output, with the rest fitted
    costs = torch.zeros(20, 6)
    for cut in range(6):
        mask = torch.ones_like(w, dtype=torch.bool)
        mask[..., cut] = False
        difference = w - best_within(w, mask, h)
        costs[:, cut] = ((difference @ h) * difference).sum(2)[0]
    difference = w - found
    # Then on average it is within a fifth of the best
    assert float(((difference @ h) * difference).sum()) <= 1.2 * float(costs.min(1).values.sum())


def test_what_may_not_stay_does_not() -> None:
    # Given weights that an earlier step has cut / When half of all shall be zero
    allowed = torch.rand(1, 4, 16, generator=torch.Generator().manual_seed(4)) < 0.7
    _, kept = operated(weight(4, 16) * allowed, hessian(16, 100), lowest(0.5, allowed))
    # Then they are among it, and count as part of it
    assert not kept[~allowed].any()
    assert int((~kept).sum()) == 32


def test_features_that_were_never_seen_and_equal_ones_do_no_harm() -> None:
    # Given inputs of which one is always zero and two are always the same
    x = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
    x[:, 3], x[:, 5] = 0, x[:, 2]
    h = damped(x @ x.transpose(1, 2))
    # When a layer is cut / Then its weights are numbers, and half of them zero
    found, kept = operated(weight(3, 8), h, lowest(0.5))
    assert found.isfinite().all()
    assert int((~kept).sum()) == 12
