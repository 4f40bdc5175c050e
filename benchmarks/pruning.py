"""Pruning on trained networks and real images, beside the reference done directly: `make bench-pruning [ROWS=...]`.

Each row is a target of its own: `python -m benchmarks.pruning` does those that are missing, so it goes on where it was
stopped; `python -m benchmarks.pruning oneshot-obs` does the named ones anew. Needs the networks and images that lie
beside the checkout, in ../shared.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.data.reading import read_images
from compressor.measure.accuracy import answers, loss, paired_drop
from compressor.measure.counting import count_macs, zeros
from compressor.methods import fine_tune, prune_channels, prune_weights
from compressor.models.source import ModelSource, read_candidate
from compressor.training.normalization import recalibrate
from compressor.training.objectives import kl_divergence
from contract.dataset import DatasetFormat
from contract.host import cores, instruction_set, processor
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.train import FineTune
from contract.model import Architecture, ModelFormat, Preprocessing

SHARED = Path(__file__).parents[2] / "shared"
PAGE = Path(__file__).parent / "PRUNING.md"
#: Committed with the page; the answers by which rows are compared are made again where they are missing.
KEPT, ANSWERS = Path(__file__).parent / "pruning.json", Path(__file__).parent / "scratch"
MODELS = {"resnet18": "resnet18-cifar10-64px", "mobilenet_v3_small": "mobilenet-v3-small-cifar10-64px"}
INPUT = Preprocessing(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CALIBRATION_IMAGES = 512
RECOVERY: dict[str, object] = {
    "epochs": 3, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 5e-4,
    "augment": "crop_flip", "warmup_epochs": 0.1,
}  # fmt: skip

HEAD = """# Pruning

Written by `make bench-pruning` on {when} ({processor}, {isa}, {cores} cores). Networks trained on CIFAR-10 (a JPEG
copy) at 64 pixels, {images} validation images; a difference is paired on the same images, in points, with its 95 %
interval, and a row fails where the lower bound lies below its margin. Rows with training are compared with the dense
network given the same training (`dense-3`: three epochs; `distilled`: learning from the original beside). Loss in
nats; KL to the original's answers.

| row | accuracy | to | difference | margin | | loss | KL | MACs | zeros | seconds |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of one row."""

    name: str
    accuracy: float
    reference: str
    difference: float
    low: float
    high: float
    margin: float | None
    loss: float
    kl: float
    macs: float
    zeros: float
    seconds: float

    def line(self) -> str:
        """The row as Markdown."""
        verdict = "" if self.margin is None else "met" if 100 * self.low >= self.margin else "**MISSED**"
        margin = "" if self.margin is None else f"{self.margin:+.1f}"
        difference, low, high = (100 * part for part in (self.difference, self.low, self.high))
        return (
            f"| {self.name} | {self.accuracy:.2%} | {self.reference} | {difference:+.2f} ({low:+.2f} to {high:+.2f}) "
            f"| {margin} | {verdict} | {self.loss:.3f} | {self.kl:.4f} | {self.macs:.3f} | {self.zeros:.1%} "
            f"| {self.seconds:.0f} |"
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One target: how a network is made, and what it is compared with."""

    model: str
    make: Callable[[Candidate], Candidate]
    #: Another row's name; the network as it came where it is empty.
    reference: str = ""
    margin: float | None = None


@cache
def validation() -> Images:
    """The images by which all is judged."""
    return read_images(SHARED / "data" / "cifar10-val-5k.zip", DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, None)


@cache
def training() -> Images:
    """The images of which networks learn."""
    return read_images(SHARED / "data" / "cifar10-train-20k.zip", DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, None)


def original(model: str) -> Candidate:
    """The trained network as it came."""
    source = ModelSource(
        architecture=Architecture(name=model, options={"num_classes": 10}),
        format=ModelFormat.SAFETENSORS,
        preprocessing=INPUT,
    )
    return read_candidate(source, SHARED / "models" / f"{MODELS[model]}.safetensors", 0)


def context(start: Candidate) -> Context:
    """What a method may use here, with the network as it is now for the original; progress goes to the terminal."""
    teacher = copy.deepcopy(start.module).eval()
    return Context(
        train=training(),
        calibration=training().take(CALIBRATION_IMAGES, seed=0),
        teachers={"original": lambda: teacher},
        progress=_tell,
    )


def _tell(fraction: float, phase: str) -> None:
    print(f"\r  {fraction:6.1%} {phase:60}", end="", flush=True)


# --- What is compared


def weights(**params: object) -> Callable[[Candidate], Candidate]:
    """Our prune_weights."""
    return lambda made: prune_weights.apply(made, PruneWeights.model_validate(params), context(made))


def recovered(
    make: Callable[[Candidate], Candidate], recipe: Mapping[str, object] = RECOVERY
) -> Callable[[Candidate], Candidate]:
    """The same with the recovery behind it."""

    def made_and_recovered(made: Candidate) -> Candidate:
        where = context(made)
        return fine_tune.apply(make(made), FineTune.model_validate(recipe), where)

    return made_and_recovered


def channels(**params: object) -> Callable[[Candidate], Candidate]:
    """Our prune_channels."""
    return lambda made: prune_channels.apply(made, PruneChannels.model_validate(params), context(made))


def by_torch_pruning(macs_ratio: float) -> Callable[[Candidate], Candidate]:
    """Torch-Pruning's own pruner as its README shows it, with the ratio searched that leaves so many MACs."""

    def make(made: Candidate) -> Candidate:
        macs = count_macs(made.module, made.input_shape).total
        low, high, best = 0.0, 0.95, made.module
        for _ in range(7):
            ratio = (low + high) / 2
            best = _pruned_directly(made, ratio)
            above = count_macs(best, made.input_shape).total > macs_ratio * macs
            low, high = (ratio, high) if above else (low, ratio)
        best = _pruned_directly(made, high)
        recalibrate(best, training().take(CALIBRATION_IMAGES, seed=0), device=torch.device("cpu"))
        return Candidate(module=best, architecture=made.architecture, preprocessing=made.preprocessing, num_classes=10)

    return make


def _pruned_directly(made: Candidate, ratio: float) -> nn.Module:
    module, example = copy.deepcopy(made.module), torch.zeros(1, *made.input_shape)
    heads = [part for part in module.modules() if isinstance(part, nn.Linear) and part.out_features == 10]
    pruner = tp.pruner.BasePruner(
        module, example, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
        ignored_layers=heads, round_to=8,
    )  # fmt: skip
    pruner.step()
    return module


def same(made: Candidate) -> Candidate:
    """Nothing is done."""
    return made


#: The same learning from the original beside the labels.
DISTILLED = RECOVERY | {"distill_from_original": True}
GRADUAL: dict[str, object] = {"scope": "global", "schedule": "gradual", "training": RECOVERY}
R18, MN3 = "resnet18", "mobilenet_v3_small"
ROWS: Mapping[str, Row] = {
    "oneshot-l1": Row(model=R18, make=weights(amount=0.8)),
    "oneshot-wanda": Row(model=R18, make=weights(amount=0.8, importance="wanda", samples=512), reference="oneshot-l1",
                         margin=-1.0),
    "oneshot-obs": Row(model=R18, make=weights(amount=0.8, importance="obs", samples=512), reference="oneshot-l1",
                       margin=3.0),
    "oneshot-l1-global": Row(model=R18, make=weights(amount=0.8, scope="global"), margin=-1.0),
    "oneshot-obs-global": Row(model=R18, make=weights(amount=0.8, importance="obs", scope="global", samples=512),
                              reference="oneshot-l1-global", margin=-0.5),
    "dense-3": Row(model=R18, make=recovered(same)),
    "gradual-95": Row(model=R18, make=weights(amount=0.95, **GRADUAL), reference="dense-3", margin=-1.0),
    "gradual-98": Row(model=R18, make=weights(amount=0.98, **GRADUAL), reference="dense-3"),
    "dense-3-distilled": Row(model=R18, make=recovered(same, DISTILLED)),
    "gradual-95-distilled": Row(model=R18, make=weights(amount=0.95, **GRADUAL | {"training": DISTILLED}),
                                reference="dense-3-distilled", margin=-1.0),
    "2:4-3": Row(model=R18, make=recovered(weights(pattern="2:4")), reference="dense-3", margin=-0.5),
    "channels-50": Row(model=R18, make=recovered(channels(macs_ratio=0.5), DISTILLED), reference="dense-3-distilled",
                       margin=-1.0),
    "torch-pruning-50": Row(model=R18, make=recovered(by_torch_pruning(0.5), DISTILLED),
                            reference="dense-3-distilled"),
    "channels-25": Row(model=R18, make=recovered(channels(macs_ratio=0.25), DISTILLED), reference="dense-3-distilled",
                       margin=-2.0),
    "mobilenet-dense-3-distilled": Row(model=MN3, make=recovered(same, DISTILLED)),
    "mobilenet-channels-50": Row(model=MN3, make=recovered(channels(macs_ratio=0.5), DISTILLED),
                                 reference="mobilenet-dense-3-distilled", margin=-1.0),
    "mobilenet-torch-pruning-50": Row(model=MN3, make=recovered(by_torch_pruning(0.5), DISTILLED),
                                      reference="mobilenet-dense-3-distilled"),
}  # fmt: skip


# --- How it is measured and kept


def measured(name: str, row: Row) -> Found:
    """Make the network of one row and compare it; its answers are kept for the rows that refer to it."""
    start = original(row.model)
    before, macs = answers(start.module, validation()), count_macs(start.module, start.input_shape).total
    began = time.monotonic()
    made = row.make(start)
    seconds = time.monotonic() - began
    logits, labels = answers(made.module, validation()), validation().labels
    torch.save(logits, _answers_of(name))
    against = _answers(row.reference) if row.reference else before
    drop = paired_drop(against, logits, labels)
    return Found(
        name=name,
        accuracy=float((logits.argmax(1) == labels).double().mean()),
        reference=row.reference or "the original",
        difference=-drop.value,
        low=-drop.ci95[1],
        high=-drop.ci95[0],
        margin=row.margin,
        loss=loss(logits, labels),
        kl=float(kl_divergence(logits, before, temperature=1.0)),
        macs=count_macs(made.module, made.input_shape).total / macs,
        zeros=zeros(made.module),
        seconds=seconds,
    )


def _answers(name: str) -> Tensor:
    """What the network of another row answers."""
    if not _answers_of(name).exists():
        measured(name, ROWS[name])
    answered: Tensor = torch.load(_answers_of(name), weights_only=True)
    return answered


def _answers_of(name: str) -> Path:
    return ANSWERS / f"answers-{name.replace(':', '-')}.pt"


def kept() -> dict[str, Found]:
    """What earlier calls have found."""
    return {name: Found(**row) for name, row in json.loads(KEPT.read_text()).items()} if KEPT.exists() else {}


def keep(found: Mapping[str, Found]) -> None:
    """Write it, for the page and for the next call."""
    KEPT.write_text(json.dumps({name: asdict(row) for name, row in found.items()}, indent=1))
    head = HEAD.format(
        when=datetime.now(UTC).date(), processor=processor(), isa=instruction_set(), cores=cores(), images=5000
    )
    PAGE.write_text(head + "\n".join(found[name].line() for name in ROWS if name in found) + "\n")


def main() -> None:
    """Do what is named, or else all that has not been done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help=", ".join(ROWS))
    names = parser.parse_args().names
    if not SHARED.exists():
        parser.error(f"there are no networks and images at {SHARED}")
    ANSWERS.mkdir(exist_ok=True)
    found = kept()
    for name in names or [name for name in ROWS if name not in found]:
        found[name] = measured(name, ROWS[name])
        keep(found)
        print("\r" + found[name].line())
    print(f"Written to {PAGE}")


if __name__ == "__main__":
    main()
