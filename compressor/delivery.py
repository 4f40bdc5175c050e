"""Writes a candidate in the formats that were asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from compressor.candidate import Candidate
from compressor.exports import openvino_nncf
from compressor.exports.openvino_nncf import Unquantized
from compressor.format import name_of, writer
from compressor.quantization.plan import QuantizationPlan
from contract.artifact import ArtifactFormat, OutputFormat, OutputPrecision, Quantizer
from contract.spec import Output

#: Formats that are made to be run; a job's figures are those of the first of them that it asks for.
RUNNABLE = frozenset(OutputFormat) - {OutputFormat.SAFETENSORS}


@dataclass(frozen=True)
class Delivery:
    """One form of a candidate, written."""

    output: Output
    #: What the files must compute.
    candidate: Candidate
    #: By the name under which the runtime wants each file; first the one that it is given.
    files: Mapping[str, Path]
    #: Another library that has chosen the integers, and its version; null where they are those of the plan.
    realized_by: str | None = None

    @property
    def main(self) -> Path:
        """The file that the runtime is given."""
        return next(iter(self.files.values()))

    @property
    def size_bytes(self) -> int:
        """Of all its files of the format; what describes them is not counted."""
        kind = kind_of(self.main)
        return sum(path.stat().st_size for path in self.files.values() if kind_of(path) is kind)


def primary(outputs: Sequence[Output]) -> Output:
    """The output whose figures are the job's: the first that can be run, else the first."""
    return next((output for output in outputs if output.format in RUNNABLE), outputs[0])


def kind_of(path: Path) -> ArtifactFormat:
    """What a delivered file is."""
    return ArtifactFormat(name_of(path))


def deliver(candidate: Candidate, output: Output, folder: Path) -> Delivery:
    """Write one form of the candidate, which is moved to the CPU, into `folder`; raises ExportFailed."""
    # A graph that was captured on a GPU says so in the file.
    candidate.module.to("cpu")
    precision = _form(candidate, output).precision
    if precision is OutputPrecision.AS_PLANNED:
        return Delivery(output, candidate, writer(output.format)(candidate, folder, "model"))
    if not candidate.plan.empty:
        # The weights hold what the codes mean; without the plan nothing rounds the activations.
        candidate = replace(candidate, plan=QuantizationPlan())
    files = writer(output.format)(candidate, folder, f"model.{precision}", precision=precision)
    return Delivery(output, candidate, files)


def deliver_by_nncf(candidate: Candidate, output: Output, folder: Path, unquantized: Unquantized) -> Delivery:
    """Write the candidate with integers of NNCF's where its plan has some; raises ExportFailed."""
    candidate.module.to("cpu")
    files = openvino_nncf.write(unquantized, folder, "model.nncf", integers=candidate.plan.static)
    return Delivery(output, candidate, files, realized_by=openvino_nncf.version())


class _Form(NamedTuple):
    """What makes a file another file."""

    format: OutputFormat
    precision: OutputPrecision
    quantizer: Quantizer


def _form(candidate: Candidate, output: Output) -> _Form:
    """What was asked for; without a plan float32 is what is planned, and there is nothing to quantize."""
    asked = _Form(output.format, output.precision, output.options.quantizer)
    if not candidate.plan.empty:
        return asked
    floats = output.precision is OutputPrecision.FLOAT32
    return asked._replace(
        precision=OutputPrecision.AS_PLANNED if floats else output.precision, quantizer=Quantizer.PLAN
    )


def deliver_all(
    candidate: Candidate, outputs: Sequence[Output], folder: Path, unquantized: Callable[[], Unquantized]
) -> tuple[Delivery, ...]:
    """Every form that was asked for, once: without a plan, some are the same file.

    `unquantized` gives what a quantizer starts from that has means of its own.
    """
    forms: dict[_Form, Output] = {}
    for output in outputs:
        forms.setdefault(_form(candidate, output), output)
    return tuple(
        deliver_by_nncf(candidate, output, folder, unquantized())
        if form.quantizer is Quantizer.NNCF
        else deliver(candidate, output, folder)
        for form, output in forms.items()
    )
