"""One state of a job's model, measured as far as it can be before it is a file to run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.measure.accuracy import accuracy, calibration_error, loss, paired_drop
from compressor.measure.counting import count_macs, count_nonzero, count_parameters, layer_reports, zeros
from compressor.measure.fidelity import fidelity
from compressor.measure.finite import check_finite
from compressor.measure.probe import Probe
from compressor.quantization.simulate import simulated
from contract.report import LayerBefore, LayerReport, Measurement, StepReport


@dataclass(frozen=True)
class State:
    """A candidate with what was found out about it."""

    candidate: Candidate
    measurement: Measurement
    #: Its answers to the probe, shape (inputs, classes that are compared).
    logits: Tensor
    layers: tuple[LayerReport, ...]


def measured(candidate: Candidate, weights: Path, probe: Probe, device: torch.device) -> State:
    """Measure the candidate, whose weights have been written to a file; raises `UnfitModel` as `check_finite` does."""
    logits = probe.answers(simulated(candidate), device=device)
    check_finite(logits)
    macs = count_macs(candidate.module, candidate.input_shape)
    found = Measurement(
        accuracy=accuracy(logits, probe.labels) if probe.labels is not None else None,
        loss=loss(logits, probe.labels) if probe.labels is not None else None,
        calibration_error=calibration_error(logits, probe.labels) if probe.labels is not None else None,
        parameters=count_parameters(candidate.module),
        nonzero_parameters=count_nonzero(candidate.module),
        macs=macs.total,
        size_bytes=weights.stat().st_size,
    )
    return State(candidate, found, logits, layer_reports(candidate.module, macs, candidate.plan))


def step_report(state: State, before: State, original: State, probe: Probe, *, seconds: float) -> StepReport:
    """The state after a step: its layers beside those of the state before it, its answers beside the original's.

    Answers to noise are not compared.
    """
    return StepReport(
        measurement=state.measurement,
        drop=paired_drop(original.logits, state.logits, probe.labels) if probe.labels is not None else None,
        fidelity=fidelity(original.logits, state.logits) if probe.images is not None else None,
        layers=_side_by_side(state.layers, before.layers),
        zeros=zeros(state.candidate.module),
        seconds=seconds,
    )


def _side_by_side(after: Sequence[LayerReport], before: Sequence[LayerReport]) -> tuple[LayerReport, ...]:
    old = {layer.name: LayerBefore(**layer.model_dump(include=set(LayerBefore.model_fields))) for layer in before}
    return tuple(layer.model_copy(update={"before": old.get(layer.name)}) for layer in after)
