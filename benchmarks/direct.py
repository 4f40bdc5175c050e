"""The job of `benchmarks.overhead` without the service: the compressor called in a process that has it loaded.

`python -m benchmarks.direct prepare FOLDER` makes weights and data, `run FOLDER EPOCHS` prints how long a job took.
"""

import io
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from compressor.compress import compress
from compressor.models.architectures import build
from compressor.models.source import ModelSource
from compressor.order import DataInput, Inputs, ModelInput, Order
from contract.architecture import resolve_preprocessing
from contract.artifact import ArtifactFile
from contract.dataset import DatasetFormat
from contract.job import Progress
from contract.methods import Role
from contract.model import Architecture, ModelFormat, PreprocessingChoice
from contract.report import StepReport
from contract.spec import JobSpec
from contract.value import Json

NETWORK = Architecture(name="resnet18", options={"num_classes": 10})
CHOICE = PreprocessingChoice(size=(32, 32))
ANY_MODEL, ANY_DATA = "mdl_" + "0" * 26, "dat_" + "0" * 26


class Silence:
    """A desk that nobody sits at."""

    def progress(self, progress: Progress) -> None:
        """Not looked at."""

    def step_started(self, index: int) -> None:
        """Not looked at."""

    def step_succeeded(self, index: int, report: StepReport) -> None:
        """Not looked at."""

    def files_left(self, files: tuple[ArtifactFile, ...]) -> None:
        """Not wanted."""

    def checkpoint(self, path: Path, position: dict[str, Json]) -> None:
        """Not kept."""

    def stop_requested(self) -> bool:
        """Never."""
        return False


def prepare(folder: Path) -> None:
    """The scanned digits as a zip of class folders, and seeded weights."""
    digits = load_digits()
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for number, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            buffer = io.BytesIO()
            Image.fromarray((picture * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
            archive.writestr(f"{label}/{number:04}.png", buffer.getvalue())
    save_file(build(NETWORK).state_dict(), folder / "model.safetensors")


def run(folder: Path, epochs: int) -> float:
    """Seconds that the job takes here."""
    spec = {
        "model": ANY_MODEL,
        "data": {"train": ANY_DATA, "evaluation": ANY_DATA},
        "steps": [{"method": "fine_tune", "epochs": epochs}],
    }
    source = ModelSource(
        architecture=NETWORK, format=ModelFormat.SAFETENSORS, preprocessing=resolve_preprocessing(NETWORK, CHOICE)
    )
    data = DataInput(folder / "train.zip", DatasetFormat.IMAGE_FOLDER_ZIP)
    inputs = Inputs(
        model=ModelInput(source, folder / "model.safetensors"), datasets={Role.TRAIN: data, Role.EVALUATION: data}
    )
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as scratch:
        order = Order(
            spec=JobSpec.model_validate(spec),
            inputs=inputs,
            out=Path(out),
            scratch=Path(scratch),
            threads=torch.get_num_threads(),
        )
        started = time.perf_counter()
        compress(order, Silence())
        return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]))
    else:
        print(run(Path(sys.argv[2]), int(sys.argv[3])))
