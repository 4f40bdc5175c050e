"""Labelled images, ready for a network: decoded and resized once, normalized batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressor.data.changing import CHANCES, Augment, changed
from contract.model import Preprocessing

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Batch:
    """Some images, as the network wants them."""

    #: float32, (N, channels, height, width).
    x: Tensor
    #: int64, (N,): the index of each image's class.
    y: Tensor
    #: int64, (N,): where each image stands in its dataset; on the CPU, as the dataset is.
    index: Tensor
    #: float32, (N, classes): the shares of the classes, where images were blended.
    soft: Tensor | None = None
    #: Which changed version of each image it is; 0 where none is changed.
    view: int = 0


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory.

    What chance decides is a function of (seed, epoch, image), never of what was drawn before: a training that goes on
    after an interruption sees what an uninterrupted one sees.
    """

    #: uint8 (N, channels, height, width), still to be normalized; or float32, taken as it is.
    pixels: Tensor
    #: int64, (N,); -1 throughout where nobody has told the classes.
    labels: Tensor
    preprocessing: Preprocessing
    #: In the order of the labels; null where the file names none.
    class_names: tuple[str, ...] | None = None
    #: How many changed versions of each image there are, one epoch's after the other's; null: new ones in every epoch.
    views: int | None = None

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """Whether anybody has told the images' classes."""
        return bool((self.labels >= 0).all())

    @property
    def num_classes(self) -> int:
        """How many classes the labels speak of."""
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def take(self, count: int, *, seed: int) -> "Images":
        """At most `count` images, drawn without replacement; in the dataset's order."""
        if count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=_generator(seed, 0))[:count].sort().values
        return replace(self, pixels=self.pixels[chosen], labels=self.labels[chosen])

    def of_classes(self, numbers: Sequence[int]) -> "Images":
        """The images of these classes, labelled with where the class stands among `numbers`."""
        new = torch.full((max(self.num_classes, *numbers) + 1,), -1)
        new[list(numbers)] = torch.arange(len(numbers))
        labels = new[self.labels]
        chosen = labels >= 0
        named = self.class_names if max(numbers) < len(self.class_names or ()) else None
        names = named and tuple(named[number] for number in numbers)
        return replace(self, pixels=self.pixels[chosen], labels=labels[chosen], class_names=names)

    def batch_sizes(self, batch_size: int) -> list[int]:
        """The fewest batches of at most `batch_size` images, as even as can be; one of three where two would leave one.

        A last batch of what is left over may be an image or two, and their statistics spoil batch normalization.
        """
        count = max(1, min(-(-len(self) // batch_size), len(self) // 2))
        size, larger = divmod(len(self), count)
        return [size + 1] * larger + [size] * (count - larger)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augment: Augment = "none",
        device: torch.device = _CPU,
    ) -> Iterator[Batch]:
        """All images once, in batches of `batch_sizes`: in the dataset's order, or shuffled by `seed` and `epoch`.

        They go to the device as they are kept here, mostly in bytes, and are changed and normalized there.
        """
        order = (
            torch.arange(len(self)) if seed is None else torch.randperm(len(self), generator=_generator(seed, epoch))
        )
        view = epoch % self.views if self.views else epoch
        view = 0 if augment == "none" else view
        return self._ordered(order, batch_size, seed=seed or 0, view=view, augment=augment, device=device)

    def seen(
        self, batch_size: int, *, seed: int, view: int, augment: Augment, device: torch.device = _CPU
    ) -> Iterator[Batch]:
        """One changed version of all images in the dataset's order, as `batches` shows them by the same seed."""
        every = torch.arange(len(self))
        return self._ordered(every, batch_size, seed=seed, view=view, augment=augment, device=device)

    def _ordered(
        self, order: Tensor, batch_size: int, *, seed: int, view: int, augment: Augment, device: torch.device
    ) -> Iterator[Batch]:
        draws = None if augment == "none" else self._draws(seed, view, CHANCES[augment])
        for index in torch.split(order, self.batch_sizes(batch_size)):
            pixels = self.pixels[index].to(device)
            if draws is not None:
                pixels = changed(pixels, draws[index].to(device), augment)
            yield Batch(self.normalized(pixels), self.labels[index].to(device), index, view=view)

    def normalized(self, pixels: Tensor) -> Tensor:
        """The network's input: `(x / 255 - mean) / std` of uint8, anything else as float32."""
        if pixels.dtype != torch.uint8:
            return pixels.to(torch.float32)
        numbers = torch.tensor([self.preprocessing.mean, self.preprocessing.std]).view(2, 1, -1, 1, 1) * 255
        mean, std = numbers.to(pixels.device)
        return pixels.to(torch.float32).sub_(mean).div_(std)

    def _draws(self, seed: int, view: int, count: int) -> Tensor:
        """(N, count) numbers in [0, 1): so many for each image."""
        return torch.rand(len(self), count, generator=_generator(seed + 1, view))


def _generator(seed: int, epoch: int) -> torch.Generator:
    # Knuth's multiplicative hashing parts the streams of neighbouring seeds and epochs.
    return torch.Generator().manual_seed((seed * 2_654_435_761 + epoch * 40_503 + 1) % 2**63)
