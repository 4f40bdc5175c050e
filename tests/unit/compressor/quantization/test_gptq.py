"""Rounding one column after the other loses less of what a layer answers."""

import pytest
import torch
from torch import Tensor

from compressor.inputs import damped
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.gptq import compensated
from contract.methods.low_bit import Scheme


def seen(groups: int, features: int, seed: int = 0) -> Tensor:
    """Sums of x x^T over correlated columns x."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(groups, features, features // 2, generator=generator)
    x = mixing @ torch.randn(groups, features // 2, 400, generator=generator)
    x += 0.1 * torch.randn(x.shape, generator=generator)
    return x @ x.transpose(1, 2)


def lost(weight: Tensor, other: Tensor, products: Tensor) -> float:
    """The sum of squared differences of what the layer gives out."""
    difference = (weight - other).reshape(products.shape[0], -1, products.shape[1])
    return float(((difference @ products) * difference).sum())


@pytest.mark.parametrize(
    ("form", "groups"),
    [
        (Form(Scheme.SYMMETRIC, 3), 1),
        (Form(Scheme.SYMMETRIC, 3, 20), 1),
        (Form(Scheme.ASYMMETRIC, 2), 4),
        (Form(Scheme.CODEBOOK, 3), 1),
        (Form(Scheme.TERNARY, 2), 2),
    ],
)
def test_the_output_is_nearer_than_with_the_nearest_levels(form: Form, groups: int) -> None:
    # Given a layer of as many groups and what it has seen
    weight = torch.randn(8, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    products = seen(groups, 150)
    # When its weights are rounded each by itself, and one after the other
    alone, together = encoded(weight, form), compensated(weight, products, form)
    # Then less than half of the loss is left, on the same numbers
    assert torch.equal(alone.levels, together.levels)
    assert lost(weight, together.dequantized(), products) < 0.5 * lost(weight, alone.dequantized(), products)


def test_it_is_the_papers_algorithm() -> None:
    # Given a small layer
    weight, products, form = torch.randn(3, 7), seen(1, 7), Form(Scheme.SYMMETRIC, 3)
    found = compensated(weight, products, form)
    # When each column is quantized and removed from the inverse in turn, as optimal brain quantization does it
    h = damped(products)[0].double()
    order = h.diagonal().argsort(descending=True)
    left, inverse, wanted = weight.double().clone(), torch.linalg.inv(h), torch.empty_like(weight)
    assert found.scale is not None
    for column in order.tolist():
        steps = left[:, column] / found.scale.flatten()
        wanted[:, column] = (steps.round().clamp(-3, 3) * found.scale.flatten()).float()
        error = (left[:, column] - wanted[:, column]) / inverse[column, column]
        left -= error.unsqueeze(1) * inverse[column]
        inverse -= inverse[:, [column]] @ inverse[[column]] / inverse[column, column]
    # Then the same codes come out
    assert torch.allclose(found.dequantized(), wanted, atol=1e-6)


def test_pruned_weights_stay_zero_and_others_make_up_for_them() -> None:
    # Given a pruned layer / When it is rounded / Then zeros are exact
    weight, products = torch.randn(4, 30), seen(1, 30)
    kept = torch.rand(4, 30, generator=torch.Generator().manual_seed(2)) > 0.5
    weight *= kept
    made = compensated(weight, products, Form(Scheme.SYMMETRIC, 4), kept=kept).dequantized()
    assert not made[~kept].any()
    assert lost(weight, made, products) < lost(weight, torch.zeros_like(weight), products) / 10
