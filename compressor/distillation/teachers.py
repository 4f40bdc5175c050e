"""Who teaches: one model or several, each shown the images as it is used to them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.distillation.sights import sight_of
from compressor.quantization.simulate import simulated
from compressor.training.classes import answering_for
from compressor.training.layout import channels_last
from contract.model import LUMA, Preprocessing


def teachers_of(names: Sequence[str], context: Context) -> list[Candidate]:
    """Those who teach, answering as they are deployed; raises `UnfitModel` where a name has no model."""
    found = map(context.other, names)
    return [replace(teacher, module=channels_last(simulated(teacher).eval())) for teacher in found]


def voice_of(teachers: Sequence[Candidate], columns: Sequence[Tensor | None], images: Images) -> nn.Module:
    """One network that answers to the student's images with a row of logits for each.

    It takes what a batch of `images` gives as `inputs`. `columns` are, for each teacher, those of its classes that are
    the student's; null where they are the same.
    """
    voices = [_voice(teacher, chosen, images) for teacher, chosen in zip(teachers, columns, strict=True)]
    return voices[0] if len(voices) == 1 else Ensemble(voices)


def _voice(teacher: Candidate, columns: Tensor | None, images: Images) -> nn.Module:
    shown, used_to, sights = images.preprocessing, teacher.preprocessing, list(images.sights)
    if sight_of(teacher) in sights:
        seen = answering_for(columns, Accustomed(teacher.module, _unnormalized(used_to), used_to))
        return Looking(seen, at=1 + sights.index(sight_of(teacher)))
    if images.pixels.dtype != torch.uint8:
        # Float inputs are taken as they are: nobody knows how they were normalized.
        shown, used_to = _unnormalized(shown), _unnormalized(used_to)
    voice = teacher.module if shown == used_to else Accustomed(teacher.module, shown, used_to)
    own = answering_for(columns, voice)
    return Looking(own, at=0) if sights else own


def _unnormalized(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing.model_copy(update={"mean": (0.0,), "std": (1.0,)})


class Looking(nn.Module):
    """A network that looks at one of several sights of the images."""

    def __init__(self, network: nn.Module, *, at: int) -> None:
        super().__init__()
        self.network, self._at = network, at
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits for images (N, C, H, W), each input another sight of them; the first is the student's."""
        logits: Tensor = self.network(inputs[self._at])
        return logits


class Accustomed(nn.Module):
    """A network that is shown images of another size, other channels or another normalization than its own."""

    def __init__(self, network: nn.Module, shown: Preprocessing, used_to: Preprocessing) -> None:
        super().__init__()
        self.network, self._used_to, self._shown = network, used_to, shown
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits for images (N, C, H, W) as the student sees them, resized bilinearly."""
        pixels = x * _column(self._shown.std, x) + _column(self._shown.mean, x)
        pixels = _in_colours(pixels, self._used_to.channels)
        if pixels.shape[-2:] != self._used_to.size:
            pixels = F.interpolate(pixels, self._used_to.size, mode="bilinear", antialias=True)
        own = (pixels - _column(self._used_to.mean, x)) / _column(self._used_to.std, x)
        logits: Tensor = self.network(own.contiguous(memory_format=torch.channels_last))
        return logits


def _column(values: Sequence[float], x: Tensor) -> Tensor:
    return torch.tensor(values, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)


def _in_colours(pixels: Tensor, channels: str) -> Tensor:
    """One channel for gray, by the weights of ITU-R BT.601 as Pillow takes them; three for colours."""
    if channels == "gray" and pixels.shape[1] == 3:
        return (pixels * _column(LUMA, pixels)).sum(1, keepdim=True)
    return pixels.expand(-1, 3, -1, -1) if channels == "rgb" and pixels.shape[1] == 1 else pixels


class Ensemble(nn.Module):
    """Several teachers that speak with one voice: the mean of their logits.

    At any temperature that is the geometric mean of their distributions (Hinton et al. 2015, section 2).
    """

    def __init__(self, teachers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.eval()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits for images (N, C, H, W), which each teacher takes."""
        return torch.stack([teacher(*inputs) for teacher in self.teachers]).mean(0)
