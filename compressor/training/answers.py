"""What a teacher says to the images from which a student learns."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.data.images import Batch, Images
from compressor.training.precision import autocast, in_bf16
from contract.methods import Recipe

#: From a batch to the teacher's logits (N, classes) for it.
Answers = Callable[[Batch], Tensor]


def answers_of(teacher: nn.Module, images: Images, recipe: Recipe, context: Context) -> Answers:
    """The teacher's logits: asked for once, or for every batch where the recipe shows no image twice alike."""
    if recipe.mix != "none" or (recipe.augment != "none" and images.views is None):
        return live_answers(teacher, recipe, context)
    return KeptAnswers(_asking(teacher, recipe, context), images, recipe, context)


def live_answers(teacher: nn.Module, recipe: Recipe, context: Context) -> Answers:
    """The teacher's logits for the batch as the student sees it, computed anew each time."""
    ask = _asking(teacher, recipe, context)
    return lambda batch: ask(batch.x)


def _asking(teacher: nn.Module, recipe: Recipe, context: Context) -> Callable[[Tensor], Tensor]:
    """Logits for inputs on any device, on the context's, in the recipe's precision."""
    bf16 = in_bf16(recipe, teacher, context.device)

    def ask(x: Tensor) -> Tensor:
        with torch.no_grad(), autocast(context.device, bf16=bf16):
            logits: Tensor = teacher(x.to(context.device))
        return logits.float()

    return ask


class KeptAnswers:
    """The teacher's logits for every version of every image, each asked for once.

    A version is asked for as a whole, in the dataset's order, when its first batch comes: a training that goes on after
    an interruption hears the same, to the bit, as an uninterrupted one.
    """

    def __init__(self, ask: Callable[[Tensor], Tensor], images: Images, recipe: Recipe, context: Context) -> None:
        self._ask, self._images, self._recipe, self._context = ask, images, recipe, context
        #: By the version's number.
        self._kept: dict[int, Tensor] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """Logits of shape (N, classes)."""
        if batch.view not in self._kept:
            self._kept[batch.view] = self._asked(batch.view)
        return self._kept[batch.view][batch.index.to(self._context.device)]

    def _asked(self, view: int) -> Tensor:
        if not self._kept:
            self._context.progress(0.0, "asking the teacher")
        recipe, seed = self._recipe, self._context.seed
        seen = self._images.seen(recipe.batch_size, seed=seed, view=view, augment=recipe.augment)
        return torch.cat([self._ask(batch.x) for batch in seen])
