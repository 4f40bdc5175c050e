"""Applies a job's steps in order, and proves what came out."""

from pathlib import Path

from compressor.order import DataInput, Desk, Inputs, ModelInput, Order, Outcome
from contract.artifact import ArtifactFile

__all__ = ["DataInput", "Desk", "Inputs", "ModelInput", "Order", "Outcome", "compress", "files_left"]


def compress(order: Order, desk: Desk) -> Outcome:
    """Do the job.

    Raises a `contract.failures.Failure` where it cannot be done, and `compressor.context.Interrupted` where the desk
    asked it to stop; the last checkpoint is then at the desk.
    """
    raise NotImplementedError


def files_left(out: Path) -> tuple[ArtifactFile, ...]:
    """What a job that failed has left in its folder, none of it proven."""
    raise NotImplementedError
