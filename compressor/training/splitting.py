"""Training data in two parts: one to learn from, one to judge epochs by."""

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.context import Context
from compressor.data.images import Images
from contract.failures import MissingData
from contract.methods import Recipe


@dataclass(frozen=True)
class Split:
    """Images to learn from, and those held out; none where nothing is judged."""

    learn: Images
    held_out: Images | None = None

    @property
    def unlabelled(self) -> Images | None:
        """The held-out images, where nobody has told their classes, so that a teacher must judge there."""
        return None if self.held_out is None or self.held_out.labelled else self.held_out


def split_of(recipe: Recipe, context: Context) -> Split:
    """The training data as the recipe wants it parted, by the seed; raises `MissingData` where there is none."""
    images = context.train
    if images is None:
        raise MissingData("Training needs data. Name a dataset under data.train.")
    count = round(recipe.held_out * len(images))
    if not recipe.held_out:
        return Split(images)
    if not 1 <= count <= len(images) - 2:
        raise MissingData(f"{len(images)} images are too few to hold out {recipe.held_out:g} of them.")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(context.seed % 2**63))
    return Split(_part(images, order[count:]), _part(images, order[:count]))


def _part(images: Images, chosen: Tensor) -> Images:
    return images.chosen(chosen.sort().values)
