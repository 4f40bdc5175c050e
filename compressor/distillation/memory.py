"""The memory of contrastive distillation: what a network has said of every training image.

Tian et al. 2020, arXiv:1910.10699, section 3.2, with the memory and the normalization of Wu et al. 2018,
arXiv:1805.01978, section 3.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contract.failures import MissingData, UnfitModel
from contract.methods.objectives import Crd

#: The part of what is remembered of an image that stays when it is seen again.
MOMENTUM = 0.5
#: Bytes that the memories of one term may take: they lie on the device, and in every checkpoint.
LARGEST = 2**31


def check_memory(term: Crd, *, pairs: int, images: int, pointer: str) -> None:
    """See whether there are others to remember, and room: raises `MissingData`, and `UnfitModel` with this pointer."""
    if term.negatives is None:
        return
    if images < 2:
        raise MissingData("crd tells an image from others, and there is one image to train on.")
    taken = 2 * pairs * images * term.width * torch.float32.itemsize
    if taken > LARGEST:
        raise UnfitModel(
            f"A memory of {images:,} images at width {term.width} takes {taken / 2**30:.1f} GiB, and may take "
            f"{LARGEST / 2**30:.0f}. Lower width, or let negatives be null.",
            pointer=pointer,
        )


def others_of(index: Tensor, count: int, *, images: int) -> Tensor:
    """For each image of `index` (N,), so many others out of all, drawn evenly by torch's generator; (N, count)."""
    drawn = torch.randint(images - 1, (len(index), count), device=index.device)
    return drawn + (drawn >= index[:, None])


class Memory(nn.Module):
    """One direction (width,) for each of the training images: the moving average of a network's embeddings.

    They begin as drawn by torch's generator, and are no parameters: nothing but `remember` changes them.
    """

    directions: Tensor
    log_mean: Tensor

    def __init__(self, images: int, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", F.normalize(torch.randn(images, width), dim=1))
        # Of exp(cosine / temperature), over the others of the first batch; not yet known.
        self.register_buffer("log_mean", torch.tensor(math.nan))

    def contrast(self, seen: Tensor, index: Tensor, others: Tensor, *, temperature: float) -> Tensor:
        """How badly `seen` (B, width), of length 1, tells its own image in the memory from `others` (B, N).

        -log h(own) - sum of log(1 - h(other)), the mean over the batch: equations 17 and 18, with the critic of
        equation 19, h = p / (p + N / M). Here p = exp(cosine / temperature) / Z, and Z is M times the mean that the
        first batch's others give (Wu et al., section 3.2).
        """
        scores = seen @ self.directions.T / temperature
        own, other = scores.gather(1, index[:, None]), scores.gather(1, others)
        if self.log_mean.isnan():
            self.log_mean = other.detach().flatten().logsumexp(0) - math.log(other.numel())
        # log(p M / N), of which h is the logistic function.
        offset = self.log_mean + math.log(others.shape[1])
        found = F.logsigmoid(own - offset).sum(1) + F.logsigmoid(offset - other).sum(1)
        return -found.mean()

    @torch.no_grad()
    def remember(self, seen: Tensor, index: Tensor) -> None:
        """Move what is remembered of these images to what was seen of them, (B, width) of length 1.

        A memory of its own takes the place of the old one, which the gradient still needs.
        """
        moved = F.normalize(self.directions[index].lerp(seen, 1 - MOMENTUM), dim=1)
        self.directions = self.directions.index_copy(0, index, moved)
