"""Jobs that take seconds: a small residual network that tells four tints apart."""

import copy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.models.architectures import build
from compressor.models.source import ModelSource
from compressor.order import DataInput, Inputs, ModelInput, Order
from contract.artifact import ArtifactFile
from contract.dataset import DatasetFormat
from contract.job import Progress
from contract.methods import Params, Role
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.report import StepReport
from contract.spec import DataUse, JobSpec
from contract.value import Json

#: timm's network for tests of its own: 0.4 million parameters, residual, with batch normalization.
NETWORK = Architecture(library="timm", name="test_resnet", options={"num_classes": 4})
PREPROCESSING = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
_TINTS = np.array([[120, 0, 0], [0, 120, 0], [0, 0, 120], [80, 80, 0]])
_ULID = "01JD0000000000000000000000"
ALL_ROLES = (Role.TRAIN, Role.EVALUATION)


def images(count: int, *, seed: int) -> Images:
    """Noise with a tint of random strength, which is the class."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(_TINTS)
    pixels = random.integers(0, 120, (count, 32, 32, 3)) + _TINTS[labels][:, None, None] * random.random(
        (count, 1, 1, 1)
    )
    pixels = torch.from_numpy(pixels.astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.from_numpy(labels).long(), PREPROCESSING)


def trained(architecture: Architecture = NETWORK) -> nn.Module:
    """The network after a second of training: right on about nine images in ten."""
    return learnt(architecture, images(240, seed=0), epochs=3, batch_size=24)


def learnt(architecture: Architecture, data: Images, *, epochs: int, batch_size: int) -> nn.Module:
    """The network as it is after so many epochs with these images."""
    module = build(architecture, seed=0).train()
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for epoch in range(epochs):
        for batch in data.batches(batch_size, seed=0, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(module(batch.x), batch.y).backward()
            optimizer.step()
    return module.eval()


@cache
def _trained_once() -> nn.Module:
    return trained()


def trained_candidate() -> Candidate:
    """The network after that second, made once and copied."""
    module = copy.deepcopy(_trained_once())
    return Candidate(module=module, architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4)


def write_weights(module: nn.Module, path: Path) -> Path:
    """The network's weights as they are uploaded."""
    save_file(module.state_dict(), path)
    return path


def write_data(path: Path, *, count: int, seed: int) -> Path:
    """Images as they are uploaded."""
    data = images(count, seed=seed)
    np.savez(path, x=data.pixels.permute(0, 2, 3, 1).numpy(), y=data.labels.numpy())
    return path


def model_input(weights: Path | None, architecture: Architecture = NETWORK) -> ModelInput:
    """The model as a job gets it."""
    source = ModelSource(architecture=architecture, format=ModelFormat.SAFETENSORS, preprocessing=PREPROCESSING)
    return ModelInput(source, weights)


def spec(*steps: Params, roles: tuple[Role, ...] = ALL_ROLES, **options: object) -> JobSpec:
    """A spec with these steps."""
    data = DataUse(**{role.value: f"dat_{_ULID}" for role in roles})
    return JobSpec.model_validate({"model": f"mdl_{_ULID}", "data": data, "steps": steps, **options})


def order(
    folder: Path, weights: Path, job: JobSpec, *, checkpoint_seconds: float = 30, resume: Path | None = None
) -> Order:
    """The order of a job on data of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {Role.TRAIN: (240, 0), Role.CALIBRATION: (64, 2), Role.EVALUATION: (200, 1)}
    datasets = {
        role: DataInput(write_data(folder / f"{role}.npz", count=count, seed=seed), DatasetFormat.NPZ)
        for role, (count, seed) in files.items()
        if getattr(job.data, role.value) is not None
    }
    return Order(
        spec=job,
        inputs=Inputs(model=model_input(weights), datasets=datasets),
        out=folder / "out",
        scratch=folder / "scratch",
        threads=1,
        checkpoint_seconds=checkpoint_seconds,
        resume=resume,
    )


@dataclass
class NotingDesk:
    """Writes down what it is told, keeps the newest checkpoint, and asks to stop at the checkpoint of this number."""

    folder: Path
    stop_after: int | None = None
    asked: int = 0
    told: list[Progress] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    succeeded: list[tuple[int, StepReport]] = field(default_factory=list)
    positions: list[dict[str, Json]] = field(default_factory=list)
    left: tuple[ArtifactFile, ...] = ()

    @property
    def kept(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "kept.zip"

    def progress(self, progress: Progress) -> None:
        self.told.append(progress)

    def step_started(self, index: int) -> None:
        self.started.append(index)

    def step_succeeded(self, index: int, report: StepReport) -> None:
        self.succeeded.append((index, report))

    def files_left(self, files: tuple[ArtifactFile, ...]) -> None:
        self.left = files

    def checkpoint(self, path: Path, position: dict[str, Json]) -> None:
        path.rename(self.kept)
        self.positions.append(position)

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after
