"""A job's report: the primary artifact's figures beside the baseline's."""

import platform
from importlib.metadata import PackageNotFoundError, version

from compressor.measure.accuracy import accuracy, calibration_error, loss
from compressor.measure.fidelity import fidelity
from compressor.measure.state import State
from compressor.verify import Bench, Figures, Proof
from contract.host import cores, instruction_set, processor
from contract.report import Environment, Latency, Measurement, Ratios, Report

_PACKAGES = (
    "modelpress",
    "torch",
    "torchvision",
    "timm",
    "torchao",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "executorch",
    "numpy",
)


def report(bench: Bench, state: State, proof: Proof, *, device: str) -> Report:
    """The figures of the state as the file computes it that the proof is about."""
    baseline = _with_file(bench.original.measurement, proof.baseline, proof.verification.baseline_latency)
    compressed = _with_file(_judged(state.measurement, bench, proof), proof.figures, proof.verification.latency)
    return Report(
        baseline=baseline,
        compressed=compressed,
        ratio=ratios(baseline, compressed),
        drop=proof.verification.drop,
        fidelity=fidelity(bench.original.logits, proof.logits) if bench.probe.images is not None else None,
        environment=environment(threads=bench.threads, device=device),
    )


def ratios(before: Measurement, after: Measurement) -> Ratios:
    """After over before."""
    timed = before.latency and after.latency
    return Ratios(
        size_bytes=after.size_bytes / before.size_bytes,
        latency=after.latency.p50_ms / before.latency.p50_ms if timed and after.latency and before.latency else None,
        parameters=after.parameters / before.parameters,
        macs=after.macs / before.macs if before.macs else 1.0,
    )


def environment(*, threads: int, device: str) -> Environment:
    """This machine and the packages that did the work."""
    return Environment(
        instruction_set=instruction_set(),
        processor=processor(),
        cores=cores(),
        threads=threads,
        device=device,
        versions={"python": platform.python_version()} | {name: v for name in _PACKAGES if (v := _version(name))},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _with_file(found: Measurement, figures: Figures, latency: Latency | None) -> Measurement:
    return found.model_copy(
        update={
            "size_bytes": figures.size_bytes,
            "load_seconds": figures.load_seconds,
            "peak_memory_bytes": figures.peak_memory_bytes,
            "latency": latency,
        }
    )


def _judged(counted: Measurement, bench: Bench, proof: Proof) -> Measurement:
    """What was counted of the state, with accuracy, loss and calibration of the file's own answers."""
    labels = bench.probe.labels
    if labels is None:
        return counted
    return counted.model_copy(
        update={
            "accuracy": accuracy(proof.logits, labels),
            "loss": loss(proof.logits, labels),
            "calibration_error": calibration_error(proof.logits, labels),
        }
    )
