"""A teacher that is used to larger images than its student sees what their files have in its own size."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted
from compressor.data.images import Images
from compressor.data.origin import Sight
from compressor.distillation.sights import seen_by
from compressor.measure.accuracy import top1
from compressor.measure.probe import probe
from compressor.methods import distill
from compressor.models.architectures import build
from compressor.training.splitting import Split
from contract.methods.distill import Distill
from contract.model import Architecture, Preprocessing
from contract.report import NoticeCode
from contract.value import Json
from tests.unit.compressor.data.pictures import read, stripes, zipped
from tests.unit.compressor.interrupting import GoOnFrom, StopAt

NETWORK = Architecture(library="timm", name="test_resnet", options={"num_classes": 2})
#: Of the student; stripes of one pixel in files of 32 are gray in it.
SMALL = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3)
LARGE = Preprocessing(size=(32, 32), mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
RECIPE: dict[str, object] = {"epochs": 2, "batch_size": 12, "learning_rate": 3e-3}


class Grain(nn.Module):
    """Tells stripes by whether neighbours across or neighbours below differ more; notes what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        # Not the borders, where stripes leave a trace in every size.
        inner = x[..., 4:-4, 4:-4]
        across, down = (inner.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (3, 2))
        return torch.stack([down, across], 1) * 5


@dataclass
class Lessons:
    """Images to learn from and to be judged by, and what is told of it."""

    train: Images
    evaluation: Images
    notes: dict[str, Json] = field(default_factory=dict)
    notices: list[tuple[str, str]] = field(default_factory=list)

    def right(self, module: nn.Module, sights: Sequence[Sight]) -> Tensor:
        """Which of the evaluation images a network is right on, as a step of a job tells."""
        asked = probe(self.evaluation, None, input_shape=(3, 16, 16), seed=0).seen_in(sights)
        return top1(asked.answers(module)) == self.evaluation.labels

    def notice(self, code: NoticeCode, detail: str) -> None:
        """Teachers without weights are smaller than any student, which is not what is looked for here."""
        if code != "larger_than_teacher":
            self.notices.append((code, detail))

    def context(self, *teachers: Candidate) -> Context:
        names = ["original", "step_0", "step_1"]
        return Context(
            train=self.train,
            seed=5,
            others={name: lambda t=t: t for name, t in zip(names, teachers, strict=False)},  # type: ignore[misc]
            record=self.notes.__setitem__,
            notice=self.notice,
            right=self.right,
        )


@pytest.fixture
def lessons(tmp_path: Path) -> Lessons:
    """Stripes of one pixel: 32 x 32 in their files."""
    paths = [zipped(tmp_path / f"{seed}.zip", stripes(32, 48, seed=seed)) for seed in (0, 1)]
    return Lessons(*(read(path, SMALL) for path in paths))


def candidate(module: nn.Module, preprocessing: Preprocessing) -> Candidate:
    return Candidate(module=module.eval(), architecture=NETWORK, preprocessing=preprocessing, num_classes=2)


def student() -> Candidate:
    return candidate(build(NETWORK, seed=3), SMALL)


def taught(lessons: Lessons, *teachers: Candidate, **params: object) -> Candidate:
    return distill.apply(student(), Distill.model_validate(RECIPE | params), lessons.context(*teachers))


def same(one: Candidate, other: Candidate) -> bool:
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_teacher_sees_what_its_student_cannot(lessons: Lessons) -> None:
    # Given stripes that are gray at the student's size, and a teacher that is used to twice that
    grain = Grain()
    # When it teaches
    taught(lessons, candidate(grain, LARGE), compare_without_teacher=True)
    # Then it tells every image by its stripes, which enlarged ones do not have, and no notice says that they are
    assert lessons.notes["accuracy_of_teacher"] == 1.0
    assert lessons.notices == []
    enlarged = replace(lessons, train=replace(lessons.train, origin=None), notes={}, notices=[])
    taught(enlarged, candidate(Grain(), LARGE))
    assert [code for code, _ in enlarged.notices] == ["teacher_sees_enlarged"]
    found = enlarged.notes["accuracy_of_teacher"]
    assert isinstance(found, float)
    assert found < 0.8
    # And what it saw is the files' images, in its normalization, each once
    pictures = [picture for folder in stripes(32, 48, seed=0).values() for picture in folder]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (LARGE.mean, LARGE.std))
    assert torch.allclose(torch.cat(grain.seen[-4:]), (x - mean) / std, atol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"augment": "crop_flip"},
        {"augment": "resized_crop_flip", "views": 2, "epochs": 3},
        {"mix": "cutmix"},
        {"objective": [{"objective": "rkd", "layers": [["layer4", "0"]]}, {"objective": "kl"}], "augment": "crop_flip"},
        {"alpha": 1, "held_out": 0.25, "keep": "best"},
    ],
    ids=["kept", "live", "views", "blended", "features", "judged by the teacher"],
)
def test_what_is_held_and_what_is_read_for_every_batch_teach_the_same(
    lessons: Lessons, monkeypatch: pytest.MonkeyPatch, params: dict[str, object]
) -> None:
    # Given a teacher of larger images, and images of which nobody has told the classes where it alone judges
    judged = params.get("alpha") == 1
    labels = torch.full_like(lessons.train.labels, -1) if judged else lessons.train.labels
    lessons.train = replace(lessons.train, labels=labels)
    tutor = candidate(nn.Sequential(nn.Conv2d(3, 2, 3, stride=2), Mean()), LARGE)
    # When a student learns from it, and another one where there is no room to hold what the teacher sees
    held = taught(lessons, tutor, **params)
    notices = [code for code, _ in lessons.notices]
    monkeypatch.setattr("compressor.distillation.sights.LARGEST", 0)
    read_anew = taught(lessons, tutor, **params)
    # Then both are the same, to the last bit, and it is said that images are read more than once
    assert same(held, read_anew)
    assert "teacher_images_not_held" not in notices
    assert ("teacher_images_not_held" in [code for code, _ in lessons.notices]) == (params != {})


class Mean(nn.Module):
    """The mean of each map, by sums that no batch changes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([one.mean((1, 2)) for one in x])


@pytest.mark.parametrize("params", [{"augment": "crop_flip"}, {"augment": "crop", "views": 2}], ids=["live", "kept"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(lessons: Lessons, params: dict[str, object]) -> None:
    # Given a training of two epochs from a teacher of larger images
    tutor = candidate(nn.Sequential(nn.Conv2d(3, 2, 3, stride=2), Mean()), LARGE)
    made = taught(lessons, tutor, **params)
    # When another is interrupted behind the first, and goes on
    stopping, asked = StopAt(1), Distill.model_validate(RECIPE | params)
    with pytest.raises(Interrupted):
        distill.apply(student(), asked, replace(lessons.context(tutor), checkpoints=stopping))
    going_on = replace(lessons.context(tutor), checkpoints=GoOnFrom(stopping.kept[-1]))
    # Then the student is the same, to the last bit
    assert same(distill.apply(student(), asked, going_on), made)


def test_each_of_several_teachers_sees_its_own_size(lessons: Lessons) -> None:
    # Given teachers of two larger sizes, one of which is used to gray, and one of the student's size
    grains = [Grain(), Grain(), Grain()]
    used_to = [LARGE, Preprocessing(size=(24, 20), mean=(0.5,), std=(0.5,), channels="gray"), SMALL]
    # When they teach together
    tutors = [candidate(grain, one) for grain, one in zip(grains, used_to, strict=False)]
    taught(lessons, *tutors, teacher=["original", "step_0", "step_1"])
    # Then each saw the images in its own, the last one's being the student's to the bit
    assert [tuple(grain.seen[-1].shape[1:]) for grain in grains] == [(3, 32, 32), (1, 24, 20), (3, 16, 16)]
    assert torch.equal(torch.cat(grains[2].seen[-4:]), next(lessons.train.batches(48)).x)


def test_teachers_of_one_size_share_a_reading(lessons: Lessons) -> None:
    # Given two teachers of the same size, in normalizations of their own / When it is asked what is read for them
    other = candidate(Grain(), LARGE.model_copy(update={"mean": (0.5,) * 3}))
    found = seen_by([candidate(Grain(), LARGE), other], Split(lessons.train))
    # Then it is one reading
    assert list(found.learn.sights) == [Sight((32, 32), "rgb")]
    assert found.learn.bytes_when_held() == 48 * 3 * 32 * 32


def test_versions_are_the_same_for_student_and_teacher(lessons: Lessons) -> None:
    # Given a teacher of larger images and a student, who note what they see of changed images
    grain, learner = Grain(), Shown()
    distill.apply(
        replace(student(), module=learner), Distill.model_validate(RECIPE | {"augment": "crop", "epochs": 1}),
        lessons.context(candidate(grain, LARGE)),
    )  # fmt: skip
    # Then the zeros that have moved in cover the same part of the pictures
    for own, larger in zip(learner.seen, grain.seen[-4:], strict=True):
        outside = (own[:, 0] * 0.25 + 0.5).abs() < 1e-6
        black = F.avg_pool2d((larger[:, :1] * 0.3 + 0.1).abs(), 2)[:, 0] < 1e-6
        assert outside.any()
        assert torch.equal(outside, black)


class Shown(nn.Module):
    """A student that notes what it is shown in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(3, 2), list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        found: Tensor = self.linear(x.mean((2, 3)))
        return found


@pytest.mark.parametrize(("side", "said"), [(64, ["teacher_sees_enlarged"]), (32, []), (24, []), (12, [])])
def test_it_is_told_of_how_many_images_there_is_no_more(lessons: Lessons, side: int, said: list[str]) -> None:
    # Given files of 32 pixels, and a teacher of others / When it teaches / Then it is told where they are enlarged
    taught(lessons, candidate(Grain(), LARGE.model_copy(update={"size": (side, side)})))
    assert [code for code, _ in lessons.notices] == said
    assert all("Of the 48 images, 48 have fewer pixels" in detail for _, detail in lessons.notices)
