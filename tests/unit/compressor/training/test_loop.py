"""Training learns, keeps zeros, tells how it goes, and survives being interrupted."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted
from compressor.data.images import Batch
from compressor.measure.accuracy import answers, loss
from compressor.training.loop import train
from compressor.training.objectives import cross_entropy
from compressor.training.splitting import Split, split_of
from compressor.training.state import Run
from contract.failures import MissingData, TrainingDiverged
from contract.methods.train import FineTune
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.networks import Residual
from tests.unit.compressor.small_jobs import PREPROCESSING, images

DATA = images(50, seed=0)


def candidate(masks: Mapping[str, Tensor] | None = None) -> Candidate:
    """A residual network with batch normalization and dropout; its architecture is never built here."""
    torch.manual_seed(0)
    made = Candidate(
        module=Residual().eval(),
        architecture=Architecture(name="resnet18"),
        preprocessing=PREPROCESSING,
        num_classes=4,
        masks=masks or {},
    )
    made.apply_masks()
    return made


def trained(params: FineTune, context: Context, start: Candidate | None = None) -> Candidate:
    made = start or candidate()
    train(made, params, context, objective=cross_entropy, images=split_of(params, context))
    return made


def same(first: Candidate, second: Candidate) -> bool:
    mine, other = first.module.state_dict(), second.module.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def test_it_learns() -> None:
    # Given images of four tints
    notes: dict[str, Json] = {}
    # When a network is trained on them
    made = trained(FineTune(epochs=6, batch_size=10, learning_rate=0.01), Context(train=DATA, record=notes.__setitem__))
    # Then its loss falls from epoch to epoch's end, and it is left ready to be used
    curve = notes["train_loss"]
    assert isinstance(curve, list)
    assert len(curve) == 6
    assert float(str(curve[-1])) < 0.8 * float(str(curve[0]))
    assert not any(part.training for part in made.module.modules())
    assert all(parameter.is_contiguous() for parameter in made.module.parameters())
    assert isinstance(notes["images_per_second"], float)


@pytest.mark.parametrize(
    ("cycles", "starts"), [(1, [0]), (3, [0, 6, 12]), (20, list(range(20))), (30, list(range(20)))]
)
def test_cycles_begin_with_the_largest_step_and_the_last_one_ends_with_the_smallest(
    cycles: int, starts: list[int]
) -> None:
    # Given a training of twenty updates along a cosine, gone through several times / When it is done
    params, rates = FineTune(epochs=4, batch_size=10, learning_rate=0.01), list[float]()
    context = Context(train=DATA)
    train(
        candidate(), params, context, objective=cross_entropy, images=split_of(params, context), cycles=cycles,
        after_update=lambda run, _: rates.append(run.optimizer.param_groups[0]["lr"]),
    )  # fmt: skip
    # Then the largest step is taken where a cycle begins, and nowhere else: the last one takes what is left over
    assert [number for number, rate in enumerate(rates) if rate == 0.01] == starts
    assert cycles >= 20 or rates[-1] == min(rates)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_what_is_pruned_stays_zero_and_the_rest_learns(optimizer: Literal["adam", "adamw", "sgd"]) -> None:
    # Given a network of which half of one layer is pruned
    mask = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    start = candidate({"stem.0.weight": mask})
    before = start.module.get_parameter("stem.0.weight").clone()
    # When it is trained, with decay and momentum
    params = FineTune(epochs=2, batch_size=10, optimizer=optimizer, weight_decay=0.01)
    weight = trained(params, Context(train=DATA), start).module.get_parameter("stem.0.weight")
    # Then every pruned weight is zero, and every other has moved
    assert not weight[~mask].any()
    assert (weight[mask] != before[mask]).all()


@pytest.mark.parametrize(("freeze_after", "followed"), [(0.0, 0), (0.5, 10), (None, 20)])
def test_statistics_follow_until_they_are_frozen_and_weights_to_the_end(
    freeze_after: float | None, followed: int
) -> None:
    # Given a training of twenty updates, judged behind each epoch / When statistics are frozen behind a part of it
    params = FineTune(epochs=4, batch_size=8, held_out=0.2, freeze_after=freeze_after)
    context, moved, learnt, start = Context(train=DATA), list[bool](), list[bool](), candidate()
    mean, weight = start.module.get_buffer("stem.1.running_mean"), start.module.get_parameter("stem.1.weight")
    seen = {"mean": mean.clone(), "weight": weight.clone()}

    def look(run: Run, number: int) -> None:
        moved.append(not torch.equal(mean, seen["mean"]))
        learnt.append(not torch.equal(weight, seen["weight"]))
        seen.update(mean=mean.clone(), weight=weight.clone())

    train(start, params, context, objective=cross_entropy, images=split_of(params, context), after_update=look)
    # Then they have moved in every update until then, and in none behind; weights have moved in all
    assert moved == [True] * followed + [False] * (20 - followed)
    assert all(learnt)


EVERYTHING: dict[str, object] = {
    "mix": "cutmix", "label_smoothing": 0.1, "average": 0.9, "clip_norm": 1.0, "schedule": "one_cycle",
    "held_out": 0.2, "keep": "best", "patience": 4, "freeze_after": 0.6,
}  # fmt: skip


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "schedule": "step", "warmup_epochs": 1.5},
        {"optimizer": "sgd", "mix": "mixup"},
        {"optimizer": "adamw", "precision": "bf16"},
        {"optimizer": "adamw", **EVERYTHING},
    ],
    ids=["adam", "adamw", "sgd", "bf16", "everything"],
)
@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(recipe: dict[str, object], stop: int) -> None:
    # Given a training of four epochs that nobody stops
    mask = torch.rand(8, 3, 3, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    masks = {"stem.0.weight": mask}
    params = FineTune.model_validate(
        {"epochs": 4, "batch_size": 16, "augment": "crop_flip", "weight_decay": 0.01, **recipe}
    )
    whole_notes: dict[str, Json] = {}
    whole = trained(params, Context(train=DATA, seed=3, record=whole_notes.__setitem__), candidate(masks))
    # When another is interrupted, and a third goes on from there with torch's own generator elsewhere
    stopping = StopAt(stop)
    with pytest.raises(Interrupted):
        trained(params, Context(train=DATA, seed=3, checkpoints=stopping), candidate(masks))
    torch.manual_seed(99)
    notes: dict[str, Json] = {}
    context = Context(train=DATA, seed=3, record=notes.__setitem__, checkpoints=GoOnFrom(stopping.kept[-1]))
    resumed = trained(params, context, replace(candidate(masks), module=Residual()))
    # Then it ends with the same weights and statistics, to the last bit, and tells the same curve
    assert same(resumed, whole)
    assert notes["train_loss"] == whole_notes["train_loss"]


def test_a_training_that_was_interrupted_behind_its_last_epoch_does_no_work() -> None:
    # Given a training that was done when it was stopped
    params, stopping = FineTune(epochs=2, batch_size=10), StopAt(2)
    with pytest.raises(Interrupted):
        trained(params, Context(train=DATA, checkpoints=stopping))
    # When it goes on
    fractions: list[float] = []
    context = Context(
        train=DATA, checkpoints=GoOnFrom(stopping.kept[-1]), progress=lambda fraction, phase: fractions.append(fraction)
    )
    resumed = trained(params, context)
    # Then it ends at once, as it was
    assert fractions == []
    assert same(resumed, trained(params, Context(train=DATA)))


def test_the_seed_decides_and_nothing_else() -> None:
    # Given the same seed twice, with torch's own generator elsewhere, and another seed
    params = FineTune(epochs=1, batch_size=10, augment="crop")
    first = trained(params, Context(train=DATA, seed=1))
    second = candidate()
    torch.manual_seed(77)
    before = torch.get_rng_state()
    trained(params, Context(train=DATA, seed=1), second)
    # Then the same seed makes the same, another one does not, and torch's own generator is as it was
    assert same(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert not same(first, trained(params, Context(train=DATA, seed=2)))


def test_progress_tells_of_every_batch() -> None:
    # Given somebody who watches
    told: list[tuple[float, str]] = []
    context = Context(train=DATA, progress=lambda fraction, phase: told.append((fraction, phase)))
    # When two epochs of five batches are done
    trained(FineTune(epochs=2, batch_size=10), context)
    # Then he hears of each, and how fast they come
    assert [fraction for fraction, _ in told] == [pytest.approx((number + 1) / 10) for number in range(10)]
    phases = [re.fullmatch(r"(epoch . of 2)(?:, ([\d,]+\.\d) images/s)?", phase) for _, phase in told]
    assert [found and found[1] for found in phases] == ["epoch 1 of 2"] * 5 + ["epoch 2 of 2"] * 5
    assert [bool(found and found[2]) for found in phases] == [False, True, True, True, True] * 2


def test_a_loss_that_is_no_number_fails_by_name() -> None:
    # Given an objective that breaks / When a network is trained on it / Then that is said, with the epoch
    def broken(logits: Tensor, batch: Batch) -> Tensor:
        return cross_entropy(logits, batch) * float("nan")

    with pytest.raises(TrainingDiverged, match="The loss is nan in epoch 1 of 3"):
        train(candidate(), FineTune(batch_size=10), Context(train=DATA), objective=broken, images=Split(DATA))


def test_without_data_it_says_what_is_missing() -> None:
    with pytest.raises(MissingData, match=r"data\.train"):
        trained(FineTune(), Context())


@pytest.mark.parametrize("count", [33, 35])
def test_a_few_images_left_over_spoil_no_statistics(count: int) -> None:
    # Given a number of images that leaves one or three over / When they are trained on in batches of two or 32
    for size in (2, 32):
        sizes: list[int] = []

        def noting(logits: Tensor, batch: Batch, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(batch.y))
            return cross_entropy(logits, batch)

        recipe, data = FineTune(epochs=1, batch_size=size), images(count, seed=0)
        train(candidate(), recipe, Context(train=data), objective=noting, images=Split(data))
        # Then every image is seen once, and no batch has one alone
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 2


def test_the_average_is_what_is_kept() -> None:
    # Given the weights after each update
    seen: list[Tensor] = []

    def noting(run: Run, iteration: int) -> None:
        seen.append(run.module.get_parameter("head.bias").detach().clone())

    made = candidate()
    start = made.module.get_parameter("head.bias").detach().clone()
    # When they are averaged with a decay of one half
    recipe = FineTune(epochs=1, batch_size=10, average=0.5)
    train(made, recipe, Context(train=DATA), objective=cross_entropy, images=Split(DATA), after_update=noting)
    # Then what is kept is their average, of which the first updates make up more
    average = start
    for number, weight in enumerate(seen):
        decay = min(0.5, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(made.module.get_parameter("head.bias"), average, atol=1e-6)


def test_the_best_epoch_is_kept_and_a_stale_training_stops() -> None:
    # Given a step size that spoils what was learnt
    notes: dict[str, Json] = {}
    recipe = FineTune(
        epochs=30, batch_size=10, learning_rate=0.5, schedule="constant", held_out=0.3, patience=2, keep="best"
    )
    # When a network is trained with it
    made = trained(recipe, Context(train=DATA, record=notes.__setitem__))
    # Then it stops two epochs behind the best one, whose weights are kept
    judged = notes["held_out_loss"]
    assert isinstance(judged, list)
    losses = [float(str(one)) for one in judged]
    assert len(losses) == losses.index(min(losses)) + 3 < 30
    assert notes["epoch_kept"] == losses.index(min(losses)) + 1
    held_out = split_of(recipe, Context(train=DATA)).held_out
    assert held_out is not None
    assert loss(answers(made.module, held_out), held_out.labels) == pytest.approx(min(losses), abs=1e-6)


def test_what_is_held_out_is_not_learnt_from() -> None:
    # Given data of which a fifth is held out
    learn, held_out = (part for part in vars(split_of(FineTune(held_out=0.2), Context(train=DATA))).values())
    # Then the parts make up the whole, and share nothing
    assert (len(learn), len(held_out)) == (40, 10)
    whole = {image.numpy().tobytes() for image in DATA.pixels}
    parts = [{image.numpy().tobytes() for image in part.pixels} for part in (learn, held_out)]
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]


def test_too_few_images_to_hold_any_out_are_refused_by_name() -> None:
    with pytest.raises(MissingData, match="3 images are too few"):
        split_of(FineTune(held_out=0.5), Context(train=images(3, seed=0)))


def test_gradients_are_clipped() -> None:
    # Given plain gradient descent with a bound on the gradient's norm / When one update is made
    made = candidate()
    before = torch.cat([parameter.detach().flatten() for parameter in made.module.parameters()])
    recipe = FineTune(epochs=1, batch_size=64, optimizer="sgd", learning_rate=1.0, schedule="constant", clip_norm=0.01)
    trained(recipe, Context(train=DATA), made)
    after = torch.cat([parameter.detach().flatten() for parameter in made.module.parameters()])
    # Then the weights move by no more than the bound, and the momentum's share of it (Nesterov: 1 + 0.9)
    assert 0 < float((after - before).norm()) <= 0.01 * 1.9 * 1.001


def test_bf16_learns_as_float32_does_and_leaves_float32() -> None:
    # Given the same training in both precisions / When both are done
    recipe = FineTune(epochs=6, batch_size=10, learning_rate=0.01)
    data = Context(train=DATA)
    losses = []
    for precision in ("float32", "bf16"):
        made = trained(recipe.model_copy(update={"precision": precision}), data)
        assert {parameter.dtype for parameter in made.module.parameters()} == {torch.float32}
        losses.append(loss(answers(made.module, DATA), DATA.labels))
    # Then both have learnt about the same
    assert losses[1] == pytest.approx(losses[0], abs=0.15)
