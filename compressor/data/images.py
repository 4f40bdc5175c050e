"""Labelled images, ready for a network: decoded and resized once, normalized batch by batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import torch
from torch import Tensor

from compressor.data.changing import CHANCES, Augment, changed
from compressor.data.origin import Album, Look, Origin, Sight
from contract.model import Preprocessing

_CPU = torch.device("cpu")

#: The same images for those who see them in other sights, float32 of 0 to 1; made when it is asked for.
Others = Callable[[], tuple[Tensor, ...]]


def nobody() -> tuple[Tensor, ...]:
    """What others see where there are none."""
    return ()


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
    #: What the images' other sights show of the same versions, in their order.
    others: Others = nobody

    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is given that may look at other sights too: `x`, and behind it theirs."""
        return (self.x, *self.others())


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
    #: The file that they were read from; null where they are in no other size anywhere.
    origin: Origin | None = None
    #: In which other sights they are seen, and what these show of them.
    sights: Mapping[Sight, Look] = field(default_factory=dict)

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
        return self.chosen(chosen)

    def chosen(self, index: Tensor) -> "Images":
        """The images at these places (M,), in their order."""
        return replace(
            self,
            pixels=self.pixels[index],
            labels=self.labels[index],
            origin=self.origin and self.origin.chosen(index),
            sights={sight: look.chosen(index) for sight, look in self.sights.items()},
        )

    def of_classes(self, numbers: Sequence[int]) -> "Images":
        """The images of these classes, labelled with where the class stands among `numbers`."""
        new = torch.full((max(self.num_classes, *numbers) + 1,), -1)
        new[list(numbers)] = torch.arange(len(numbers))
        labels = new[self.labels]
        index = (labels >= 0).nonzero().squeeze(1)
        named = self.class_names if max(numbers) < len(self.class_names or ()) else None
        names = named and tuple(named[number] for number in numbers)
        return replace(self.chosen(index), labels=labels[index], class_names=names)

    def has_more_for(self, sight: Sight) -> bool:
        """Whether the images' file shows more in this sight than what was read of it."""
        return self._size_in(sight) != self._size

    def seen_in(self, sights: Sequence[Sight]) -> "Images":
        """The same images, for others to see in these sights too; where their file has no more, as they are here.

        Nothing is read before somebody looks, and then batch by batch.
        """
        album = cache(self.origin.open) if self.origin else None
        return replace(self, sights={sight: self._look(sight, album) for sight in sights})

    def held(self) -> "Images":
        """The same images, with all that their sights show read once and held."""
        return replace(self, sights={sight: look.held(len(self)) for sight, look in self.sights.items()})

    def bytes_when_held(self) -> int:
        """What `held` takes of memory beside the images themselves."""
        return len(self) * sum(look.bytes_read for look in self.sights.values())

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self.pixels.shape[-2:]
        return height, width

    def _size_in(self, sight: Sight) -> tuple[int, int]:
        """Height and width in which a sight is read: no smaller than what there is, and no larger than in the file."""
        (height, width), (down, across) = self._size, self.origin.within(sight) if self.origin else (0, 0)
        return max(height, down), max(width, across)

    def _look(self, sight: Sight, album: Callable[[], Album] | None) -> Look:
        if self.origin is None or album is None or not self.has_more_for(sight):
            return Look(self._unnormalized)
        return self.origin.look(album, replace(sight, size=self._size_in(sight)))

    def _unnormalized(self, index: Tensor) -> Tensor:
        """The images as they are here; floats as if they had been normalized as the network wants them."""
        pixels = self.pixels[index]
        if pixels.dtype == torch.uint8:
            return pixels
        mean, std = torch.tensor([self.preprocessing.mean, self.preprocessing.std]).view(2, 1, -1, 1, 1)
        return torch.addcmul(mean, pixels, std)

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
            yield Batch(
                self.normalized(pixels), self.labels[index].to(device), index,
                view=view, others=partial(self._to_others, index, draws, augment, device),
            )  # fmt: skip

    def _to_others(
        self, index: Tensor, draws: Tensor | None, augment: Augment, device: torch.device
    ) -> tuple[Tensor, ...]:
        """What the sights show of these images, changed by the same numbers as here."""
        shown = [look.at(index).to(device) for look in self.sights.values()]
        if draws is not None:
            own = draws[index].to(device)
            shown = [changed(pixels, own, augment, as_in=self._size) for pixels in shown]
        return tuple(_of_one(pixels) for pixels in shown)

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


def _of_one(pixels: Tensor) -> Tensor:
    """As float32 of 0 to 1."""
    return pixels.to(torch.float32).div_(255) if pixels.dtype == torch.uint8 else pixels.to(torch.float32)


def _generator(seed: int, epoch: int) -> torch.Generator:
    # Knuth's multiplicative hashing parts the streams of neighbouring seeds and epochs.
    return torch.Generator().manual_seed((seed * 2_654_435_761 + epoch * 40_503 + 1) % 2**63)
