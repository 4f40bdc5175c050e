"""What a teacher says to the images from which a student learns."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.context import Context
from compressor.data.images import Batch, Images
from compressor.training.precision import autocast, in_bf16
from contract.methods import Recipe

#: From a batch to what the teacher says to it: logits (N, classes), and behind them what else is compared.
Answers = Callable[[Batch], Tensor]

#: Bytes that answers may take which are kept: they lie on the device.
LARGEST = 2**31
#: Forward passes that an epoch of training takes for each image; a teacher's answer takes one.
_TRAINING_PASSES = 3


def answers_of(
    teacher: nn.Module, images: Images, recipe: Recipe, context: Context, *, width: int
) -> tuple[Answers, Context]:
    """The teacher's answers: asked for once, or for every batch where the recipe shows no image twice alike.

    So they are too where there are more of them than may be kept, with a notice; `width` is how many numbers it says of
    an image. The context is that in which the training goes on: what it tells of its progress is counted beside the
    asking.
    """
    if recipe.mix != "none" or (recipe.augment != "none" and images.views is None):
        return live_answers(teacher, recipe, context), context
    taken = _bytes(images, recipe, width)
    if taken > LARGEST:
        context.notice(
            "answers_not_kept",
            f"The teacher's answers take {taken / 2**30:.1f} GiB, and {LARGEST / 2**30:.0f} may be kept: it is asked "
            "anew for every batch.",
        )
        return live_answers(teacher, recipe, context), context
    kept = KeptAnswers(live_answers(teacher, recipe, context), images, recipe, context)
    return kept, replace(context, progress=kept.progress)


def is_asked_once(images: Images, recipe: Recipe, *, width: int) -> bool:
    """Whether a training sees one version of each image, and the answers to it can be kept."""
    return recipe.mix == "none" and _versions(images, recipe) == 1 and _bytes(images, recipe, width) <= LARGEST


def _bytes(images: Images, recipe: Recipe, width: int) -> int:
    """What the answers take that can be kept."""
    return _versions(images, recipe) * len(images) * width * torch.float32.itemsize


def _versions(images: Images, recipe: Recipe) -> int:
    """How many versions of each image a training sees."""
    return 1 if recipe.augment == "none" else min(images.views or recipe.epochs, recipe.epochs)


def live_answers(teacher: nn.Module, recipe: Recipe, context: Context) -> Answers:
    """The teacher's answers to the batch as the student sees it, computed anew each time."""
    bf16 = in_bf16(recipe, teacher, context.device)

    def ask(batch: Batch) -> Tensor:
        # Made before bfloat16 is entered, in which places within an image would be too coarse.
        inputs = [x.to(context.device) for x in batch.inputs()]
        with torch.no_grad(), autocast(context.device, bf16=bf16):
            said: Tensor = teacher(*inputs)
        return said.float()

    return ask


class KeptAnswers:
    """The teacher's answers to every version of every image, each asked for once.

    A version is asked for as a whole, in the dataset's order, when its first batch comes: a training that goes on after
    an interruption hears the same, to the bit, as an uninterrupted one.
    """

    def __init__(self, ask: Answers, images: Images, recipe: Recipe, context: Context) -> None:
        self._ask, self._images, self._recipe, self._context = ask, images, recipe, context
        #: By the version's number.
        self._kept: dict[int, Tensor] = {}
        #: The done fraction of the training.
        self._trained = 0.0

    def __call__(self, batch: Batch) -> Tensor:
        """Of shape (N, width)."""
        if batch.view not in self._kept:
            self._kept[batch.view] = self._asked(batch.view)
        return self._kept[batch.view][batch.index.to(self._context.device)]

    def progress(self, fraction: float, phase: str) -> None:
        """Tell how far the training is, beside the asking."""
        self._trained = fraction
        self._tell(phase)

    def _asked(self, view: int) -> Tensor:
        recipe, seed = self._recipe, self._context.seed
        seen = self._images.seen(
            recipe.batch_size, seed=seed, view=view, augment=recipe.augment, device=self._context.device
        )
        said: list[Tensor] = []
        for batch in seen:
            said.append(self._ask(batch))
            self._tell("asking the teacher", asked=sum(map(len, said)) / len(self._images))
        return torch.cat(said)

    def _tell(self, phase: str, *, asked: float = 0.0) -> None:
        """How much is done of asking and training, so much of the next version among it."""
        training = _TRAINING_PASSES * self._recipe.epochs
        done = len(self._kept) + asked + training * self._trained
        self._context.progress(done / (_versions(self._images, self._recipe) + training), phase)
