"""Model soups: the mean of the weights, judged where that is asked for, of networks that fit each other."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers, loss
from compressor.methods import merge
from compressor.models.architectures import build
from compressor.training.normalization import normalizations
from contract.failures import MissingData, UnfitModel
from contract.methods.merge import Merge
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained_candidate

A, B = "mdl_01JD000000000000000000000A", "mdl_01JD000000000000000000000B"
DATA = images(96, seed=1)


def shaken(strength: float, seed: int) -> Candidate:
    """The trained network with noise on every weight: what another training from the same beginning may have found."""
    made = trained_candidate()
    noise = torch.Generator().manual_seed(seed)
    for parameter in made.module.parameters():
        parameter.data += strength * parameter.std().nan_to_num() * torch.randn(parameter.shape, generator=noise)
    return made


def context(others: dict[str, Candidate], notes: dict[str, Json] | None = None, **more: object) -> Context:
    made: dict[str, Callable[[], Candidate]] = {name: lambda one=one: one for name, one in others.items()}  # type: ignore[misc]
    return replace(Context(others=made, record=({} if notes is None else notes).__setitem__), **more)  # type: ignore[arg-type]


def test_the_weights_are_the_mean_of_the_weights() -> None:
    # Given three networks, one of which counts twice
    own, a, b = shaken(0.1, 1), shaken(0.1, 2), shaken(0.1, 3)
    before = [copy.deepcopy(one.module).state_dict() for one in (own, a, b)]
    notes: dict[str, Json] = {}
    # When they are averaged
    params = Merge(ingredients=(A, B), weights=(0.5, 1.0, 0.5))
    after = merge.apply(own, params, context({A: a, B: b}, notes)).module.state_dict()
    # Then every tensor is their weighted mean, and the others are what they were
    for name, tensor in after.items():
        if tensor.is_floating_point():
            x, y, z = (state[name].double() for state in before)
            assert torch.allclose(tensor.double(), x / 4 + y / 2 + z / 4, atol=1e-6), name
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in a.module.state_dict().items())
    assert notes["weights"] == {"current": 0.25, A: 0.5, B: 0.25}


def test_statistics_are_measured_anew() -> None:
    # Given networks whose average has other statistics than the average of theirs
    own, other = shaken(0.4, 3), shaken(0.4, 4)
    merged = [
        merge.apply(
            copy.deepcopy(own), Merge(ingredients=(A,), recalibrate=anew), context({A: other}, calibration=DATA)
        )
        for anew in (True, False)
    ]
    # When the average answers with either
    losses = [loss(answers(one.module, DATA), DATA.labels) for one in merged]
    # Then it answers better with those of its own, and only these differ
    assert losses[0] < losses[1]
    measured, mean = (normalizations(one.module) for one in merged)
    assert not torch.equal(next(iter(measured.values())).running_var, next(iter(mean.values())).running_var)  # type: ignore[arg-type]
    assert all(
        torch.equal(x, y) for x, y in zip(merged[0].module.parameters(), merged[1].module.parameters(), strict=True)
    )


def test_a_greedy_soup_leaves_out_what_makes_it_worse() -> None:
    # Given a network close to the trained one, and one that knows nothing
    own = trained_candidate()
    stranger = replace(own, module=build(NETWORK, seed=9).eval())
    notes: dict[str, Json] = {}
    params = Merge(ingredients=(A, B), soup="greedy")
    # When a greedy soup is made of them
    after = merge.apply(own, params, context({A: stranger, B: shaken(0.02, 4)}, notes, calibration=DATA))
    # Then the stranger is not in it, and it is no worse than the best of them alone
    kept, alone, found = notes["weights"], notes["loss_alone"], notes["loss"]
    assert isinstance(kept, dict)
    assert isinstance(alone, dict)
    assert A not in kept
    assert set(kept) <= {"current", B}
    assert found <= min(alone.values())  # type: ignore[operator,type-var]
    assert loss(answers(after.module, DATA), DATA.labels) == found


def test_equal_models_are_all_in_a_greedy_soup() -> None:
    # Given the same network twice / When a greedy soup is made / Then the second does not make it worse, and is kept
    notes: dict[str, Json] = {}
    merge.apply(trained_candidate(), Merge(ingredients=(A,), soup="greedy"),
                context({A: trained_candidate()}, notes, calibration=DATA))  # fmt: skip
    assert notes["weights"] == {"current": 0.5, A: 0.5}


def test_what_is_masked_stays_zero() -> None:
    # Given a network of which half of a layer is masked
    own = trained_candidate()
    name, weight = next((n, p) for n, p in own.module.named_parameters() if p.dim() > 1)
    mask = torch.arange(weight.numel()).reshape(weight.shape) % 2 == 0
    own = replace(own, masks={name: mask})
    own.apply_masks()
    # When it is averaged with one that has all of its weights
    after = merge.apply(own, Merge(ingredients=(A,)), context({A: trained_candidate()}))
    # Then what was masked is still zero
    assert not after.module.get_parameter(name)[~mask].any()
    assert after.module.get_parameter(name)[mask].all()


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        (Architecture(library="timm", name="test_resnet", options={"num_classes": 5}), r"fc\.weight is \[5, .*\[4, "),
        (Architecture(name="squeezenet1_1", options={"num_classes": 4}), r"conv1\.\S+ is missing there"),
    ],
    ids=["classes", "architecture"],
)
def test_a_model_that_does_not_fit_is_named_with_its_tensor(architecture: Architecture, sentence: str) -> None:
    # Given a model of other classes, or of another architecture / When it is to be averaged with / Then it is named
    other = Candidate(
        module=build(architecture).eval(), architecture=architecture, preprocessing=PREPROCESSING, num_classes=4
    )
    with pytest.raises(UnfitModel, match=f"{A} cannot be averaged.*{sentence}") as caught:
        merge.apply(trained_candidate(), Merge(ingredients=(B, A)), context({A: other, B: trained_candidate()}))
    assert caught.value.errors[0].pointer == "/ingredients/1"


def test_classes_in_another_order_are_refused() -> None:
    own = replace(trained_candidate(), classes=("a", "b", "c", "d"))
    other = replace(trained_candidate(), classes=("b", "a", "c", "d"))
    with pytest.raises(UnfitModel, match="another order"):
        merge.apply(own, Merge(ingredients=(A,)), context({A: other}))


def test_a_greedy_soup_needs_images() -> None:
    with pytest.raises(MissingData):
        merge.apply(trained_candidate(), Merge(ingredients=(A,), soup="greedy"), context({A: trained_candidate()}))


def test_where_nothing_differs_no_statistic_moves() -> None:
    # Given the same network twice, and images that it was not trained on
    before = trained_candidate().module.state_dict()
    # When they are averaged / Then everything is what it was, the statistics too
    after = merge.apply(
        trained_candidate(), Merge(ingredients=(A,)), context({A: trained_candidate()}, calibration=DATA)
    )
    for name, tensor in after.module.state_dict().items():
        # How often statistics were measured is no part of what the network computes.
        assert name.endswith("num_batches_tracked") or torch.allclose(tensor, before[name], atol=1e-5), name
