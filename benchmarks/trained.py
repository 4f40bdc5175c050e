"""The trained networks and images that lie beside the checkout, in ../shared."""

import multiprocessing
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from benchmarks.rows import host
from compressor.candidate import Candidate
from compressor.context import Checkpoints, Context, NoCheckpoints
from compressor.data.images import Images
from compressor.data.reading import read_images
from compressor.models.source import ModelSource, read_candidate
from contract.dataset import DatasetFormat
from contract.model import Architecture, ModelFormat, Preprocessing

SHARED = Path(__file__).parents[2] / "shared"
MODELS = {"resnet18": "resnet18-cifar10-64px", "mobilenet_v3_small": "mobilenet-v3-small-cifar10-64px"}
INPUT = Preprocessing(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CALIBRATION_IMAGES = 512
LEARNING_RATE = 0.02
#: How a network that has lost something learns from the original.
LESSONS: Mapping[str, object] = {
    "batch_size": 64, "optimizer": "sgd", "learning_rate": LEARNING_RATE, "weight_decay": 5e-4, "augment": "crop_flip",
    "schedule": "one_cycle", "precision": "auto",
}  # fmt: skip
#: The same from the original alone, for a network that has lost much: on rectangles of the images, as a moving average.
AVERAGED: Mapping[str, object] = {
    **LESSONS, "learning_rate": LEARNING_RATE / 2, "augment": "resized_crop_flip", "average": 0.99, "alpha": 1.0,
}  # fmt: skip
#: The same, and a little from labels, in small steps, the statistics of batch normalization staying what they are, for
#: one that is nearly right: those of the training images alone move even the original's answers further than what is to
#: be given back.
SETTLED: Mapping[str, object] = {
    **AVERAGED, "learning_rate": 0.3 * LEARNING_RATE, "freeze_after": 0.0, "distill_from_original": True, "alpha": 0.9,
}  # fmt: skip
#: Images for surgery: layers with few places in each see enough of them only so.
SURGERY_IMAGES = 8192


@cache
def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> str:
    """What the networks are trained and asked on."""
    if device().type == "cuda":
        return torch.cuda.get_device_name()
    return host()


@cache
def validation() -> Images:
    """The images by which all is judged."""
    return read_images(SHARED / "data" / "cifar10-val-5k.zip", DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, None)


@cache
def training() -> Images:
    """The images of which networks learn."""
    return read_images(SHARED / "data" / "cifar10-train-20k.zip", DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, None)


def original(model: str) -> Candidate:
    """The trained network as it came."""
    source = ModelSource(
        architecture=Architecture(name=model, options={"num_classes": 10}),
        format=ModelFormat.SAFETENSORS,
        preprocessing=INPUT,
    )
    return read_candidate(source, SHARED / "models" / f"{MODELS[model]}.safetensors", 0)


def context(
    start: Candidate, *, seed: int = 0, checkpoints: Checkpoints | None = None, calibration: int = CALIBRATION_IMAGES
) -> Context:
    """What a method may use here, with the network as it is now for the original; progress goes to the terminal."""
    teacher = start.copied()
    teacher.module.eval().to(device())
    return Context(
        device=device(),
        seed=seed,
        train=training(),
        calibration=training().take(calibration, seed=0),
        others={"original": lambda: teacher},
        progress=_tell,
        checkpoints=checkpoints or NoCheckpoints(),
    )


def _tell(fraction: float, phase: str) -> None:
    # Of several side by side nobody could read it.
    if multiprocessing.parent_process() is None:
        print(f"\r  {fraction:6.1%} {phase:60}", end="", flush=True)
