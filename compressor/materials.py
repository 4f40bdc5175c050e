"""What a job works with, read from its inputs: the model, the images, the other models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from compressor.candidate import Candidate
from compressor.classes import Kept, kept_by
from compressor.data.images import Images
from compressor.data.ranges import unnormalized
from compressor.data.reading import read_images
from compressor.models.source import read_candidate
from compressor.models.weights import other_weights
from compressor.order import DataInput, Inputs, ModelInput, Order
from contract.dataset import DatasetFormat
from contract.failures import ClassesMismatch
from contract.methods import Role
from contract.report import Notice

#: Reads a model that a step names beside the job's own.
Other = Callable[[], Candidate]


@dataclass(frozen=True, kw_only=True)
class Materials:
    """A job's inputs, read and found to fit together."""

    #: The model as it came; nobody changes it.
    original: Candidate
    train: Images | None
    #: The calibration data, or else the training data.
    calibration: Images | None
    evaluation: Images | None
    others: Mapping[str, Other]
    #: The classes that are left in the end; none where all are. Evaluation data is of them alone.
    kept: Kept | None = None
    #: What a client should know of the models' files.
    of_models: tuple[Notice, ...] = ()

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What a client should know of the models' files and of the data, told once of data in several roles."""
        roles = {Role.EVALUATION: self.evaluation, Role.CALIBRATION: self.calibration, Role.TRAIN: self.train}
        once = {id(images.pixels): (role, images) for role, images in roles.items() if images is not None}
        found = {role: unnormalized(images) for role, images in once.values()}
        of_data = (
            Notice(code="data_not_normalized", detail=f"The {role} data {told}") for role, told in found.items() if told
        )
        return (*self.of_models, *of_data)

    def at(self, step: int) -> Self:
        """What the step of this index works with: images of the kept classes alone, once the others are let go."""
        if self.kept is None or step < self.kept.step:
            return self
        return replace(self, train=self.kept.of(self.train), calibration=self.kept.of(self.calibration))

    def begin(self) -> Candidate:
        """A copy of the original, for the first step to own."""
        return self.original.copied()


def read_materials(order: Order) -> Materials:
    """Read everything; raises the failure of whatever cannot be read or does not fit the model."""
    inputs, device = order.inputs, torch.device(order.device)
    original = read_candidate(inputs.model.source, inputs.model.weights, order.spec.seed)
    images = _read_datasets(inputs, original)
    original = _with_classes(original, images)
    kept, evaluation = kept_by(order.spec.steps, original), images.get(Role.EVALUATION)
    return Materials(
        original=original,
        train=images.get(Role.TRAIN),
        calibration=images.get(Role.CALIBRATION) or images.get(Role.TRAIN),
        evaluation=kept.of(evaluation) if kept else evaluation,
        others=_others(inputs.others, original, device, order.spec.seed),
        kept=kept,
        of_models=tuple(_of_models({"model": inputs.model, **inputs.others})),
    )


def _of_models(models: Mapping[str, ModelInput]) -> Iterator[Notice]:
    for name, model in models.items():
        found = other_weights(model.weights, model.source.format) if model.weights else None
        if found is not None:
            taken, other = found
            told = f"The file of {name} holds weights as {taken} and as {other}; the former are taken."
            yield Notice(code="other_weights_in_file", detail=f"{told} To have the others, save them alone.")


def _read_datasets(inputs: Inputs, original: Candidate) -> dict[Role, Images]:
    # One dataset in two roles is read once.
    read: dict[tuple[Path, DatasetFormat], Images] = {}
    found: dict[Role, Images] = {}
    for role, data in inputs.datasets.items():
        key = (data.path, data.format)
        if key not in read:
            read[key] = _read_dataset(role, data, original)
        found[role] = read[key]
    return _numbered_alike(found, original)


def _read_dataset(role: Role, data: DataInput, original: Candidate) -> Images:
    images = read_images(data.path, data.format, original.preprocessing, original.classes)
    highest = int(images.labels.max())
    if highest >= original.num_classes:
        raise ClassesMismatch(
            f"The {role} data has a class number {highest}, but the model has {original.num_classes} outputs."
        )
    return images


def _numbered_alike(found: Mapping[Role, Images], original: Candidate) -> dict[Role, Images]:
    """The images of all roles with classes numbered as the model's outputs are.

    Where the model has no names, those of a dataset with as many class folders as there are outputs stand for them, in
    their order, as training code numbers them. Raises `ClassesMismatch` where there is no such dataset, or another one
    has a folder that it does not have: numbers would be guesses then.
    """
    if original.classes:
        return dict(found)
    count = original.num_classes
    named = [images.class_names for images in found.values() if images.class_names]
    known = next((names for names in named if len(names) == count), None)
    return {role: _numbered(role, images, known, count) for role, images in found.items()}


def _numbered(role: Role, images: Images, known: tuple[str, ...] | None, count: int) -> Images:
    own = images.class_names
    if own is None or own == known:
        return images
    if known is None:
        raise ClassesMismatch(
            f"The {role} data has {len(own)} class folders, and the model {count} outputs without names: nobody knows "
            "which are which. Tell the model's classes in the order of its outputs."
        )
    stranger = next((name for name in own if name not in known), None)
    if stranger is not None:
        raise ClassesMismatch(f"The {role} data has a class {stranger!r}, which the other data of the job has not.")
    numbers = torch.tensor([known.index(name) for name in own])
    return replace(images, labels=numbers[images.labels], class_names=known)


def _with_classes(original: Candidate, images: Mapping[Role, Images]) -> Candidate:
    """The candidate with the data's class names, which are those of the outputs, where the model came without."""
    named = next((i.class_names for i in images.values() if i.class_names), None)
    return replace(original, classes=original.classes or named)


def _others(models: Mapping[str, ModelInput], original: Candidate, device: torch.device, seed: int) -> dict[str, Other]:
    def another(model: ModelInput) -> Other:
        return lambda: frozen(read_candidate(model.source, model.weights, seed), device)

    mine = {"original": lambda: frozen(original.copied(), device)}
    return mine | {name: another(model) for name, model in models.items()}


def frozen(candidate: Candidate, device: torch.device) -> Candidate:
    """The candidate for others to learn from: in eval mode on the device, with weights that are not trained."""
    return replace(candidate, module=candidate.module.eval().requires_grad_(False).to(device))
