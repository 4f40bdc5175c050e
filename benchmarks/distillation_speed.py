"""What it saves to ask the teacher once: an epoch of distillation with kept answers beside one with live answers.

Epochs from the second on: in the first the teacher is asked either way. Its forward pass takes about as long as the
student's forward and backward pass.
"""

import time
from dataclasses import dataclass, field
from statistics import median

import torch

from benchmarks.rows import Row
from benchmarks.untrained import untrained
from compressor.candidate import Candidate
from compressor.context import Context, TrainingState
from compressor.data.images import Images
from compressor.methods import distill
from contract.methods.distill import Distill

GROUP = "8 distillation"
IMAGES, SIDE, EPOCHS, THREADS = 512, 64, 4, 2
TEACHER, STUDENT = "resnet18", "mobilenet_v3_small"
TIME_AIM = 0.6


@dataclass
class Clock:
    """Checkpoints that note when each epoch ended."""

    ends: list[float] = field(default_factory=list)

    def resume(self) -> TrainingState | None:
        """Nothing was interrupted."""
        return None

    def save(self, state: TrainingState) -> None:
        """Note the time."""
        del state
        self.ends.append(time.perf_counter())

    def epoch(self) -> float:
        """Seconds of an epoch, the first one apart, in which answers are asked for."""
        return median(after - before for before, after in zip(self.ends, self.ends[1:], strict=False))


def images(like: Candidate) -> Images:
    """Noise with labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(IMAGES) % 10, like.preprocessing)


def _taught(params: Distill) -> float:
    """Seconds of an epoch."""
    teacher, student = (untrained(name, SIDE, num_classes=10) for name in (TEACHER, STUDENT))
    clock = Clock()
    distill.apply(
        student, params, Context(train=images(teacher), others={"original": lambda: teacher}, checkpoints=clock)
    )
    return clock.epoch()


def measure() -> list[Row]:
    """Kept and live answers in turns, of logits alone and with features beside."""
    torch.set_num_threads(THREADS)
    terms = [{"objective": "kl"}, {"objective": "attention"}, {"objective": "rkd"}]
    changed: dict[str, object] = {"epochs": EPOCHS, "augment": "crop"}
    return [
        _row(Distill.model_validate(changed), "answers"),
        _row(Distill.model_validate({**changed, "objective": terms}), "answers and features (attention, rkd)"),
    ]


def _row(changed: Distill, what: str) -> Row:
    kept, live = (min(turn) for turn in zip(*(_turn(changed) for _ in range(2)), strict=True))
    return Row(
        group=GROUP,
        what=f"an epoch, from the second on, of {STUDENT} learning {what} of {TEACHER}, {IMAGES} images of {SIDE} "
        f"pixels in one version, {THREADS} threads",
        measured=f"{kept:.2f} s where they are kept",
        beside=f"{live:.2f} s with a new version, asked anew, in each epoch ({kept / live:.2f}x)",
        aim=f"<= {TIME_AIM}x",
        met=kept / live <= TIME_AIM,
    )


def _turn(params: Distill) -> tuple[float, float]:
    return _taught(params.model_copy(update={"views": 1})), _taught(params)
