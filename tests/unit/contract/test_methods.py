"""What cannot be meant is refused before anything is loaded, with a sentence."""

import pytest
from pydantic import ValidationError

from contract.methods import METHODS, Params, Recovery, Role
from contract.methods.depth import PruneBlocks
from contract.methods.factorize import Factorize
from contract.methods.lighten import Lighten
from contract.methods.merge import Merge
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.replace import ReplaceArchitecture
from contract.methods.train import FineTune

TRAIN, CALIBRATION = Role.TRAIN, Role.CALIBRATION


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"amount": 0.5, "threshold": 0.1}, "one of amount, count and threshold"),
        ({"threshold": 0.1, "importance": "wanda"}, "threshold is a bound"),
        ({"pattern": "4:2"}, "N below M"),
        ({"pattern": "2:4", "amount": 0.5}, "says by itself"),
        ({"pattern": "3x3"}, "should match pattern"),
        ({"distribution": "erk", "scope": "global"}, "spread an amount over layers"),
        ({"amount_by_layer": {"fc": 0.5}, "count": 3}, "spread an amount over layers"),
        ({"amount_by_layer": {"fc": 1.5}}, "less than or equal to 1"),
        ({"compare": "row"}, "importance wanda"),
        ({"compare": "row", "importance": "wanda", "pattern": "1x4"}, "single weights of each output"),
        ({"compare": "row", "importance": "wanda", "pattern": "4x1"}, "single weights of each output"),
        ({"compare": "row", "importance": "wanda", "pattern": "filters"}, "single weights of each output"),
        ({"training": {}}, "one_shot does not train"),
        ({"schedule": "gradual", "count": 9}, "raise an amount step by step"),
        ({"schedule": "gradual", "pattern": "2:4"}, "raise an amount step by step"),
        ({"schedule": "gradual", "rewind": True}, "rewind belongs"),
        ({"schedule": "iterative", "importance": "obs", "rewind": True}, "undo what obs makes up for"),
    ],
)
def test_a_pruning_that_contradicts_itself_is_refused(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PruneWeights.model_validate(params)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"patience": 2}, "held_out"),
        ({"keep": "best"}, "held_out"),
        ({"warmup_epochs": 4}, "longer than epochs"),
        ({"warmup_epochs": 1, "schedule": "one_cycle"}, "a rise of its own"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"alpha": 0.5}, "distill_from_original must be true"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        FineTune.model_validate(params)


@pytest.mark.parametrize(
    ("params", "roles"),
    [
        ({}, set()),
        ({"importance": "wanda"}, {CALIBRATION}),
        ({"schedule": "gradual"}, {TRAIN}),
        ({"schedule": "iterative", "importance": "gradient"}, {TRAIN, CALIBRATION}),
    ],
)
def test_what_a_step_needs_follows_from_what_it_is_asked_for(params: dict[str, object], roles: set[Role]) -> None:
    assert PruneWeights.model_validate(params).roles == roles


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"ratio": 0.5, "macs_ratio": 0.5}, "one of ratio, macs_ratio"),
        ({"training": {}}, "one round does not train"),
        ({"ratio": 1.0}, "less than 1"),
        ({"importance": "magic"}, "Input should be"),
        ({"compare": "cost", "importance": "fisher"}, "channels of several layers"),
        ({"compare": "cost", "scope": "global"}, "by losses"),
        ({"reconstruct": False, "reconstruct_samples": 9}, "belongs to reconstruct"),
        ({"ratio_by_layer": {"fc": 1.0}}, "less than 1"),
    ],
)
def test_a_removal_that_contradicts_itself_is_refused(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        PruneChannels.model_validate(params)


def test_training_needs_its_data_and_importances_that_look_need_images() -> None:
    assert PruneChannels(rounds=2, importance="taylor", training=Recovery()).roles == {TRAIN, CALIBRATION}
    assert PruneChannels(rounds=2).roles == set()
    # Answers are drawn from the network, so that images need no labels
    for importance in ("fisher", "obs"):
        assert PruneChannels(importance=importance).roles == {CALIBRATION}
        assert PruneChannels(importance=importance).labelled == set()
    assert PruneChannels(importance="hessian").labelled == {CALIBRATION}


def _taught(alpha: float) -> list[Params]:
    """A step of every method that can learn from the original, by its own params or those of its training."""
    lesson: dict[str, object] = {"distill_from_original": True, "alpha": alpha}
    whole = [kind.model_validate(lesson) for kind in METHODS.values() if issubclass(kind, Recovery)]
    asked: dict[str, dict[str, object]] = {"prune_weights": {"schedule": "gradual"}, "prune_channels": {"rounds": 2}}
    parts = [name for name, kind in METHODS.items() if "training" in kind.model_fields]
    return whole + [METHODS[name].model_validate({"training": lesson, **asked.get(name, {})}) for name in parts]


def test_what_learns_from_the_original_alone_reads_no_labels() -> None:
    # Given all that can learn from the original
    assert len(_taught(1.0)) >= 6
    # Then its training data need labels where these have a part, and only there
    for alone, beside in zip(_taught(1.0), _taught(0.9), strict=True):
        assert alone.roles == beside.roles >= {TRAIN}
        assert (alone.labelled, beside.labelled) == (set(), {TRAIN})


@pytest.mark.parametrize(
    ("given", "amount"), [({}, 0.5), ({"count": 3}, None), ({"threshold": 0.1}, None), ({"pattern": "2:4"}, None)]
)
def test_what_is_echoed_is_what_will_be_done(given: dict[str, object], amount: float | None) -> None:
    # Given a step that says little / Then every default stands in it, also when it is read again
    params = PruneWeights.model_validate(given)
    assert params.amount == amount
    assert PruneWeights.model_validate_json(params.model_dump_json()) == params
    assert (PruneChannels().ratio, PruneChannels(macs_ratio=0.3).ratio) == (0.5, None)


@pytest.mark.parametrize(
    ("given", "compare"),
    [
        ({}, "mean"),
        ({"importance": "fisher"}, "mean"),
        ({"importance": "fisher", "scope": "global"}, "cost"),
        ({"importance": "fisher", "scope": "isomorphic"}, "cost"),
        ({"importance": "obs", "scope": "global"}, "cost"),
        ({"importance": "obs"}, "mean"),
        ({"importance": "fisher", "scope": "global", "compare": "mean"}, "mean"),
        ({"importance": "hessian", "scope": "global"}, "mean"),
    ],
)
def test_losses_by_gates_are_compared_with_what_channels_cost(given: dict[str, object], compare: str) -> None:
    params = PruneChannels.model_validate(given)
    assert params.compare == compare
    assert PruneChannels.model_validate_json(params.model_dump_json()) == params


@pytest.mark.parametrize(
    "params", [{"rank": 0.5, "energy": 0.9}, {"macs_ratio": 0.5, "rank": 0.5}, {"rank_by_layer": {"fc": 0.5}}]
)
def test_factorize_is_told_once_how_much_to_keep(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"give one of|needs rank"):
        Factorize.model_validate(params)


def test_factorize_halves_the_macs_where_nothing_is_told() -> None:
    assert (Factorize().macs_ratio, Factorize(energy=0.9).macs_ratio) == (0.5, None)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "either an architecture or a budget"),
        ({"architecture": {"name": "resnet18"}, "budget": {"max_macs": 1}}, "either an architecture or a budget"),
        ({"budget": {}}, "at least one of max_parameters"),
        ({"budget": {"max_macs": 0}}, "greater than or equal to 1"),
        ({"budget": {"max_macs": 1, "library": "timm"}}, "Input should be 'torchvision'"),
    ],
)
def test_a_replacement_is_named_or_chosen_by_a_budget(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ReplaceArchitecture.model_validate(params)


A, B = "mdl_01JD000000000000000000000A", "mdl_01JD000000000000000000000B"


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"ingredients": []}, "at least 1 item"),
        ({"ingredients": ["original"]}, "should match pattern"),
        ({"ingredients": [A, A]}, "named twice"),
        ({"ingredients": [A], "weights": [1]}, "a number for the job's own model"),
        ({"ingredients": [A], "weights": [0, 0]}, "above 0"),
        ({"ingredients": [A], "weights": [1, 1], "soup": "greedy"}, "greedy decides by itself"),
    ],
)
def test_a_soup_that_contradicts_itself_is_refused(params: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Merge.model_validate(params)


def test_a_soup_names_its_models_where_they_stand_and_needs_images_to_be_greedy() -> None:
    assert Merge(ingredients=(A, B)).models == {"/ingredients/0": A, "/ingredients/1": B}
    assert (Merge(ingredients=(A,)).roles, Merge(ingredients=(A,), soup="greedy").roles) == (set(), {CALIBRATION})


def test_blocks_go_by_one_amount_and_a_look_needs_images() -> None:
    assert (PruneBlocks().count, PruneBlocks(macs_ratio=0.5).count) == (1, None)
    assert (PruneBlocks().roles, PruneBlocks(importance="l1").roles) == ({CALIBRATION}, set())
    with pytest.raises(ValidationError, match="one of count, macs_ratio and parameters_ratio"):
        PruneBlocks(count=1, macs_ratio=0.5)


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (["cat"], "at least 2 items"),
        (["cat", 1, "cat"], "tells cat twice"),
        ([0, -1], "greater than or equal to 0"),
    ],
)
def test_classes_that_contradict_each_other_are_refused(kept: list[str | int], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Lighten.model_validate({"keep_classes": kept})


def test_keeping_some_classes_is_enough_to_ask_for() -> None:
    # Given a step that makes nothing lighter but for the classes / When it is read / Then nothing is missing
    exact = {"fold_batch_norm": False, "remove_dead": False}
    assert Lighten.model_validate(exact | {"keep_classes": ["cat", "3", 3]}).kept_classes == ("cat", "3", 3)
