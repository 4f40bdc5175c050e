"""Distillation on trained networks and real images, beside the reference done directly: `make bench-distillation`.

Each row is a target of its own, as in benchmarks/pruning.py: `make bench-distillation ROWS="kl kl:1"`. Rows with a
number behind a colon are those of other seeds, done where they are named. Needs the networks and images in ../shared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.by_epoch import Judged, accuracy_by_epoch
from benchmarks.judged import Page, Row, Taught, seedless
from benchmarks.trained import LESSONS, context, device, original, training
from compressor.candidate import Candidate
from compressor.method import method
from compressor.methods import distill, fine_tune, merge, prune_weights
from compressor.models.replacement import replacement
from compressor.report.style import write_png
from compressor.training.layout import channels_last
from contract.methods import METHODS
from contract.methods.distill import Distill
from contract.methods.merge import Merge
from contract.methods.prune import PruneWeights
from contract.methods.train import FineTune
from contract.model import Architecture

R18 = "resnet18"
STUDENT = Architecture(name="mobilenet_v3_small")
RECIPE: dict[str, object] = {
    "epochs": 5, "batch_size": 64, "optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01,
    "schedule": "one_cycle", "augment": "crop_flip",
}  # fmt: skip
TEMPERATURE = 4.0
#: Others, by the mean of whose rows it was chosen.
TEMPERATURES = (1, 2, 8)
SEEDS = (0, 1, 2)
#: Objectives that look inside, each beside `kl`.
FEATURES: Mapping[str, Mapping[str, object]] = {
    **{name: {"objective": name} for name in ("fitnet", "attention", "similarity", "rkd", "crd")},
    "crd-memory": {"objective": "crd", "negatives": 4096},
}
SPARSE = PruneWeights(amount=0.95, scope="global", importance="obs", samples=2048)
#: How a network that has lost most of its weights can learn from the original.
RECOVERIES: Mapping[str, Mapping[str, object]] = {
    "kl": {},
    **{f"kl-at-{temperature}": {"temperature": float(temperature)} for temperature in TEMPERATURES},
    "mse": {"objective": "mse"},
    **{
        term: {"objective": [{"objective": "kl"}, {"objective": term, **more}]}
        for term, more in {"fitnet": {"weight": 10.0}, "attention": {"weight": 100.0}, "similarity": {}}.items()
    },
    "mixup": {"mix": "mixup"},
    "batch-32": {"batch_size": 32},
    "averaged": {"average": 0.99},
    "mse-averaged": {"objective": "mse", "average": 0.99},
}
#: Rows whose accuracy is drawn epoch by epoch.
DRAWN = ("labels", "kl", "dkd", "dist")
PICTURE = Path(__file__).parents[1] / "docs" / "distillation.png"

HEAD = """# Distillation

Written by `make bench-distillation` on {made}. The teacher is a ResNet-18 trained on CIFAR-10 (a JPEG copy) at 64
pixels; the student a MobileNetV3-small from fresh weights, five epochs over 20,000 images. 5,000 validation images; a
difference is paired on the same images, in points, with its 95 % interval, and a row fails where the lower bound lies
below its margin. Loss in nats; KL to the teacher's answers. A number behind a colon is the seed; under the table, the
means over seeds. `kl` has temperature 4, `kl-at-8` another. `kl-directly` is the recipe of `kl` in torch alone (seeds 1
and 2, done in a call of their own: 61.94 and 63.16 %); other names behind `kl-` are objectives beside it that look at
features. `factorize` minds what the loss makes of errors; `outputs` what layers give out alone; `weights` nothing but
these. `two-blocks` are removed; a `soup` is the average of three networks that were `tuned` on labels with seeds of
their own. `sparse` ones have lost 95 % of their weights at once, and learn from the original for three epochs, each in
a way of its own: `kl` at temperature 4; `mse-averaged` with seeds 1 and 2 too, 84.16 and 84.12 %. Rows on an H100
were done with torch 2.11, fifteen at a time: their seconds are not those of a row alone.

"""

Make = Callable[[Candidate], Candidate]
MakeTaught = Callable[[Candidate], Taught]


def labels(seed: int) -> MakeTaught:
    """The student, from labels alone."""

    def make(made: Candidate) -> Taught:
        student = replacement(made, STUDENT, seed=seed)
        judged = Judged(student)
        where = context(made, seed=seed, checkpoints=judged)
        return Taught(fine_tune.apply(student, FineTune.model_validate(RECIPE), where), judged.accuracy)

    return make


def taught(seed: int, **params: object) -> MakeTaught:
    """Our distill."""
    step = Distill.model_validate({**RECIPE, "student": STUDENT, "alpha": 1.0, **params})

    def make(made: Candidate) -> Taught:
        judged = Judged(replacement(made, STUDENT, seed=seed))
        where = context(made, seed=seed, checkpoints=judged)
        return Taught(distill.apply(made, step, where), judged.accuracy)

    return make


def recovered(epochs: int) -> Make:
    """The network given so many epochs of learning from the original."""
    step = Distill.model_validate({**LESSONS, "epochs": epochs})
    return lambda made: distill.apply(made, step, context(made))


def chain(*steps: Mapping[str, object]) -> Make:
    """Our methods, one after the other; the original teaches."""
    found = [METHODS[str(step["method"])].model_validate(step) for step in steps]

    def make(made: Candidate) -> Candidate:
        where = context(made)
        for step in found:
            made = method(step.method)(made, step, where)
        return made

    return make


def tuned(made: Candidate, seed: int = 0) -> Candidate:
    """The network trained on with labels."""
    return fine_tune.apply(made, FineTune.model_validate({**LESSONS, "epochs": 3}), context(made, seed=seed))


def soup(made: Candidate) -> Candidate:
    """Several that were trained on from the same beginning, each with a seed of its own, averaged."""
    first, *others = (tuned(made.copied(), seed) for seed in SEEDS)
    # What an upload is called.
    named = {f"mdl_{number:026d}": other for number, other in enumerate(others)}
    step = Merge(ingredients=tuple(named))
    where = replace(context(made), others={name: other.copied for name, other in named.items()})
    return merge.apply(first, step, where)


def recovering(seed: int, **params: object) -> Make:
    """The network without 19 of 20 weights, given three epochs of learning from the original alone."""
    step = Distill.model_validate({**LESSONS, "epochs": 3, "learning_rate": 0.01, "alpha": 1.0, **params})

    def make(made: Candidate) -> Candidate:
        where = context(made, seed=seed, calibration=SPARSE.samples)
        return distill.apply(prune_weights.apply(made, SPARSE, context(made, calibration=SPARSE.samples)), step, where)

    return make


def directly(seed: int) -> Make:
    """Hinton's recipe as it is commonly written, with torch alone; the same images in the same order."""

    def make(made: Candidate) -> Candidate:
        student = replacement(made, STUDENT, seed=seed)
        _taught_directly(student.module, original(R18).module.eval(), seed)
        return student

    return make


def _taught_directly(student: nn.Module, teacher: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    epochs, size = 5, 64
    updates = epochs * len(training().batch_sizes(size))
    optimizer = torch.optim.AdamW(student.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=updates, cycle_momentum=False)
    for network in (student, teacher):
        channels_last(network.to(device()))
    for epoch in range(epochs):
        student.train()
        for batch in training().batches(size, seed=seed, epoch=epoch, augment="crop_flip", device=device()):
            x = batch.x.contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                told = F.log_softmax(teacher(x) / TEMPERATURE, 1)
            learnt = F.log_softmax(student(x) / TEMPERATURE, 1)
            loss = TEMPERATURE**2 * F.kl_div(learnt, told, reduction="batchmean", log_target=True)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    student.eval()


def _suffix(seed: int) -> str:
    """What the names of a seed's rows end in."""
    return "" if seed == 0 else f":{seed}"


def _of_seed(seed: int) -> dict[str, Row]:
    name = _suffix(seed)
    rows = {
        "labels": Row(model=R18, make=labels(seed)),
        "kl": Row(model=R18, make=taught(seed, temperature=TEMPERATURE), reference=f"labels{name}", margin=1.5),
        "dkd": Row(model=R18, make=taught(seed, objective="dkd"), reference=f"kl{name}", margin=-1.0),
        "dist": Row(model=R18, make=taught(seed, objective="dist"), reference=f"kl{name}", margin=-1.0),
        "kl-directly": Row(model=R18, make=directly(seed), reference=f"kl{name}"),
        **{
            f"kl-at-{temperature}": Row(model=R18, make=taught(seed, temperature=temperature))
            for temperature in TEMPERATURES
        },
        **{
            f"kl-{term}": Row(
                model=R18, make=taught(seed, objective=[{"objective": "kl"}, params]), reference=f"kl{name}"
            )
            for term, params in FEATURES.items()
        },
    }
    return {f"{row}{name}": found for row, found in rows.items()}


def _recovered(seed: int) -> dict[str, Row]:
    name = _suffix(seed)
    return {
        f"sparse-{row}{name}": Row(
            model=R18, make=recovering(seed, **params), reference="" if row == "kl" else f"sparse-kl{name}"
        )
        for row, params in RECOVERIES.items()
    }


DISTILL: Mapping[str, object] = {"method": "distill", **LESSONS}
HALF: Mapping[str, object] = {"method": "factorize", "macs_ratio": 0.5}
FIFTH: Mapping[str, object] = {"method": "factorize", "macs_ratio": 0.2}
TWO_BLOCKS: Mapping[str, object] = {"method": "prune_blocks", "count": 2}
CHAINS: dict[str, Row] = {
    "dense-2": Row(model=R18, make=recovered(2)),
    "dense-3": Row(model=R18, make=recovered(3)),
    "dense-5": Row(model=R18, make=recovered(5)),
    "factorize-50-weights": Row(model=R18, make=chain({**HALF, "data_aware": False})),
    "factorize-50-outputs": Row(
        model=R18, make=chain({**HALF, "loss_aware": False}), reference="factorize-50-weights", margin=0.0
    ),
    "factorize-50": Row(model=R18, make=chain(HALF), reference="factorize-50-weights", margin=0.0),
    "factorize-20-outputs": Row(model=R18, make=chain({**FIFTH, "loss_aware": False})),
    "factorize-20": Row(model=R18, make=chain(FIFTH), reference="factorize-20-outputs", margin=0.0),
    "factorize-50-2": Row(model=R18, make=chain(HALF, {**DISTILL, "epochs": 2}), reference="dense-2", margin=-1.5),
    "separable": Row(model=R18, make=chain({"method": "lighten", "separable": True})),
    "separable-5": Row(
        model=R18,
        make=chain({"method": "lighten", "separable": True, "fold_batch_norm": False}, {**DISTILL, "epochs": 5}),
        reference="dense-5",
        margin=-2.5,
    ),
    "factorize-20-5": Row(
        model=R18,
        make=chain(FIFTH, {**DISTILL, "epochs": 5}),
        reference="dense-5",
        margin=-2.5,
    ),
    "two-blocks": Row(model=R18, make=chain(TWO_BLOCKS)),
    "two-blocks-3": Row(model=R18, make=chain(TWO_BLOCKS, {**DISTILL, "epochs": 3}), reference="dense-3"),
    "tuned": Row(model=R18, make=tuned),
    "soup": Row(model=R18, make=soup, reference="tuned", margin=0.0),
}
ROWS: dict[str, Row] = {
    name: row for rows in (_of_seed, _recovered) for seed in SEEDS for name, row in rows(seed).items()
} | CHAINS

PAGE = Page("DISTILLATION", HEAD, ROWS, on_request=frozenset(name for name in ROWS if ":" in name))


def draw() -> None:
    """The curves of the plain objectives over all seeds that were done, where all of them are there."""
    found: dict[str, list[Sequence[float]]] = {}
    for name, row in PAGE.kept().items():
        if row.by_epoch:
            found.setdefault(seedless(name), []).append(row.by_epoch)
    if all(name in found for name in DRAWN):
        write_png(accuracy_by_epoch({name: found[name] for name in DRAWN}, accented="kl"), PICTURE)


if __name__ == "__main__":
    PAGE.main(__doc__)
    draw()
