"""A teacher sees the images as it is used to them, and several speak with one voice."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.distillation.teachers import teachers_of, voice_of
from compressor.training.classes import shared_classes
from contract.failures import ClassesMismatch, UnfitModel
from contract.model import Preprocessing
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained_candidate

SHOWN = PREPROCESSING
LARGER = Preprocessing(size=(48, 40), mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
GRAY = Preprocessing(size=(32, 32), mean=(0.25,), std=(0.5,), channels="gray")


class Noting(nn.Module):
    """Notes what it is shown; answers with the mean of each channel and a constant."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.classes, self.seen = classes, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x.detach().clone()
        return x.mean((1, 2, 3)).unsqueeze(1).repeat(1, self.classes)


def candidate(module: nn.Module, preprocessing: Preprocessing = SHOWN) -> Candidate:
    return Candidate(module=module, architecture=NETWORK, preprocessing=preprocessing, num_classes=4)


def voice(names: Sequence[str], data: Images, others: Mapping[str, Callable[[], Candidate]]) -> nn.Module:
    teachers = teachers_of(names, Context(others=others))
    return voice_of(
        teachers, [shared_classes(candidate(Noting()), teacher, Context(), kin=False) for teacher in teachers], data
    )


def shown(preprocessing: Preprocessing, data: Images) -> Tensor:
    """What a teacher with this preprocessing gets to see when the student sees the images."""
    noting = Noting()
    teacher = voice(["original"], data, {"original": lambda: candidate(noting, preprocessing)})
    teacher(next(data.batches(8)).x)
    return noting.seen


def normalized(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return (pixels / 255 - mean) / std


def test_a_teacher_of_another_size_sees_what_pillow_would_make_of_the_images() -> None:
    # Given smooth images, and a teacher that is used to larger ones with another normalization
    ramp = torch.linspace(0, 255, 32).view(1, 1, 32, 1) * torch.linspace(0.2, 1, 3).view(1, 3, 1, 1)
    data = Images(ramp.expand(2, 3, 32, 32).to(torch.uint8).contiguous(), torch.tensor([0, 1]), SHOWN)
    # When the student's images are shown to it
    seen = shown(LARGER, data)
    # Then they are resized bilinearly and normalized as it wants them, within a pixel value's rounding
    picture = Image.fromarray(data.pixels[0].permute(1, 2, 0).numpy()).resize((40, 48), Image.Resampling.BILINEAR)
    expected = normalized(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float(), LARGER)
    assert seen.shape == (2, 3, 48, 40)
    assert float((seen[:1] - expected).abs().max()) < 1.5 / 255 / min(LARGER.std)


def test_a_teacher_of_smaller_images_sees_what_pillow_would_make_of_them() -> None:
    # Given images of which no two pixels are alike, and a teacher that is used to smaller ones
    data = images(2, seed=0)
    smaller = LARGER.model_copy(update={"size": (12, 9)})
    # When the student's images are shown to it
    seen = shown(smaller, data)
    # Then every pixel of theirs has a part in what it sees, as in Pillow's, within a pixel value's rounding
    picture = Image.fromarray(data.pixels[0].permute(1, 2, 0).numpy()).resize((9, 12), Image.Resampling.BILINEAR)
    expected = normalized(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float(), smaller)
    assert float((seen[:1] - expected).abs().max()) < 1.5 / 255 / min(smaller.std)


def test_a_gray_teacher_sees_gray() -> None:
    # Given images in colours / When a teacher that is used to gray is shown them
    data = images(8, seed=0)
    seen = shown(GRAY, data)
    # Then it sees what Pillow calls gray
    gray = np.stack([np.array(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L")) for p in data.pixels])
    expected = normalized(torch.from_numpy(gray)[:, None].float(), GRAY)
    assert seen.shape == (8, 1, 32, 32)
    assert float((seen - expected).abs().max()) < 1.5 / 255 / GRAY.std[0]


def test_float_inputs_are_shown_as_they_are() -> None:
    # Given inputs whose normalization nobody knows / When a teacher with another one is shown them
    x = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = Images(x, torch.arange(8) % 4, SHOWN)
    same_size = LARGER.model_copy(update={"size": (32, 32)})
    # Then it sees the same numbers
    assert torch.allclose(shown(same_size, data), x, atol=1e-6)


def test_a_teacher_with_the_students_preprocessing_is_asked_directly() -> None:
    # Given such a teacher / When it is looked for / Then nothing stands around it
    made = trained_candidate()
    found = voice(["original"], images(8, seed=0), {"original": lambda: made})
    assert found is made.module


def test_several_teachers_speak_with_the_mean_of_their_logits() -> None:
    # Given two teachers / When they are one
    first, second = trained_candidate(), candidate(Noting())
    others = {"original": lambda: first, "step_0": lambda: second}
    ensemble = voice(["original", "step_0"], images(8, seed=0), others)
    # Then that one says the mean
    x = next(images(8, seed=0).batches(8)).x
    assert torch.allclose(ensemble(x), (first.module(x) + second.module(x)) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "failure", "said"),
    [("step_3", UnfitModel, "step_3"), ("original", ClassesMismatch, "tells 7 classes apart")],
)
def test_who_cannot_teach_is_named(name: str, failure: type[Exception], said: str) -> None:
    # Given nobody of that name, or a teacher of other classes / When / Then
    with pytest.raises(failure, match=said):
        voice([name], images(8, seed=0), {"original": lambda: candidate(Noting(classes=7))})
