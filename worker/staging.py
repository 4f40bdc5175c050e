"""Puts what a job reads into its folder, and writes its assignment."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contract.architecture import resolve_preprocessing
from contract.dataset import Dataset
from contract.failures import InputCorrupt
from contract.model import Model, ModelFormat
from contract.spec import UntrainedModel
from contract.worker import WorkerCard
from storage.values import Claim
from worker.messages import Assignment, StagedData, StagedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Staging:
    """Fetches a claim's inputs, each once."""

    claim: Claim
    #: Where the files go.
    folder: Path
    #: Copies the blob with this digest to a new file.
    fetch: Callable[[str, Path], None]
    _there: set[str] = field(default_factory=set)

    def assignment(self, card: WorkerCard) -> Assignment:
        """Everything in place; raises what `fetch` raises."""
        claim = self.claim
        return Assignment(
            spec=claim.spec,
            model=self._start(),
            datasets={role: self._data(dataset) for role, dataset in claim.datasets.items()},
            others={name: self._model(model) for name, model in claim.others.items()},
            threads=threads_of(card),
            device=_device(claim, card),
            resume=self._checkpoint(),
        )

    def _checkpoint(self) -> str | None:
        """The checkpoint to go on from; one that is damaged costs the work behind it, not the job."""
        if self.claim.resume is None:
            return None
        try:
            return self._file(self.claim.resume.sha256, "checkpoint")
        except InputCorrupt:
            logger.warning("%s: its checkpoint is damaged, so it starts anew", self.claim.job_id)
            return None

    def _start(self) -> StagedModel:
        if self.claim.model is not None:
            return self._model(self.claim.model)
        assert isinstance(self.claim.spec.model, UntrainedModel)
        model = self.claim.spec.model
        return StagedModel(
            architecture=model.architecture,
            format=ModelFormat.SAFETENSORS,
            preprocessing=resolve_preprocessing(model.architecture, model.preprocessing),
            classes=model.classes,
            weights=None,
        )

    def _model(self, model: Model) -> StagedModel:
        assert model.sha256 is not None
        return StagedModel(
            architecture=model.architecture,
            format=model.format,
            preprocessing=model.preprocessing,
            classes=model.classes,
            weights=self._file(model.sha256, model.format.value),
        )

    def _data(self, dataset: Dataset) -> StagedData:
        assert dataset.sha256 is not None
        return StagedData(file=self._file(dataset.sha256, "data"), format=dataset.format)

    def _file(self, sha256: str, suffix: str) -> str:
        name = f"{sha256}.{suffix}"
        if name not in self._there:
            self.fetch(sha256, self.folder / name)
            self._there.add(name)
        return name


def threads_of(card: WorkerCard) -> int:
    """Threads of one job: the slots share the cores, for two pools on the same cores slow each other many times."""
    return max(1, card.cores // card.slots)


def _device(claim: Claim, card: WorkerCard) -> str:
    if claim.spec.device != "auto":
        return claim.spec.device
    return "cuda" if "cuda" in card.devices else "cpu"
