"""The statistics of batch normalization, measured anew as a step of its own."""

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.training import normalization
from contract.failures import MissingData, UnfitModel
from contract.methods.recalibrate import Recalibrate


def preflight(candidate: Candidate, params: Recalibrate) -> None:
    """Raise `UnfitModel` where there is nothing to measure."""
    del params
    if not normalization.normalizations(candidate.module):
        raise UnfitModel("The model has no batch normalization, so there are no statistics to measure.")


def apply(candidate: Candidate, params: Recalibrate, context: Context) -> Candidate:
    """Replace every running mean and variance by what the calibration images show."""
    preflight(candidate, params)
    if context.calibration is None:
        raise MissingData("recalibrate needs images. Name a dataset under data.calibration.")
    images = context.calibration.take(params.samples, seed=context.seed)
    context.progress(0.0, "measuring statistics")
    layers = normalization.recalibrate(candidate.module.to(context.device), images, device=context.device)
    context.record("layers", layers)
    context.record("images", len(images))
    return candidate
