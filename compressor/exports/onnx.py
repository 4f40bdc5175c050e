"""A candidate as an ONNX file: floats, or integers with the plan's own scales."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch.export import ExportedProgram

from compressor.blame import cause
from compressor.candidate import Candidate
from compressor.exports import float16, onnx_zip
from compressor.exports.description import description
from compressor.exports.exporting import quiet
from compressor.exports.onnx_levels import widen
from compressor.exports.onnx_operators import translations
from compressor.exports.onnx_registry import prepare
from compressor.exports.onnx_signed import make_signed
from compressor.exports.onnx_strides import fold_strides
from compressor.exports.onnx_transposes import hold_transposes
from compressor.quantization.graph import exported
from compressor.quantization.simulate import deployed
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed

#: The newest opset whose every operator ONNX Runtime has CPU kernels and fusions for; Gelu is one operator since 20.
OPSET = 20
#: A protobuf message ends at 2 GiB; what is near it has its weights in a file beside the graph.
LARGEST_MESSAGE = 2**31 - 2**24
#: Changes a graph and none of its answers.
Pass = Callable[[ir.Model], None]
#: What this runtime needs, or is faster with; another is slower with it.
FOR_ONNX_RUNTIME: tuple[Pass, ...] = (hold_transposes, fold_strides)


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write the candidate; raises ExportFailed."""
    path = export(candidate, folder / f"{stem}.onnx", precision=precision)
    return {path.name: path}


def export(
    candidate: Candidate,
    path: Path,
    *,
    precision: OutputPrecision = OutputPrecision.AS_PLANNED,
    passes: Sequence[Pass] = FOR_ONNX_RUNTIME,
) -> Path:
    """Write the candidate to `path`, or to `path` with `.zip` behind it where it is larger than 2 GiB.

    The file takes `image` (batch, C, H, W), gives `logits` (batch, classes) and bears the preprocessing and the class
    names in its metadata. The same candidate gives the same bytes. `passes` change the graph, and no answer, for the
    runtime that will read it. Returns where the file is; raises ExportFailed.
    """
    model = _translated(candidate, precision)
    widen(model)
    if precision is OutputPrecision.AS_PLANNED and any(code.signed for code in candidate.plan.activations.values()):
        make_signed(model)
    for change in passes:
        change(model)
    _strip(model)
    _describe(model, candidate)
    if _bytes_of_weights(model) < LARGEST_MESSAGE:
        _write(model, path)
        return path
    return _write_zip(model, path.with_name(path.name + ".zip"))


def opset(path: Path) -> int:
    """The version of ONNX's operators that a written file needs: `OPSET`, or a newer one for codes of four bits."""
    model = onnx.load_model_from_string(onnx_zip.graph(path))
    return next(int(each.version) for each in model.opset_import if not each.domain)


def _translated(candidate: Candidate, precision: OutputPrecision) -> ir.Model:
    prepare()
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                _captured(candidate, precision),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes={"image": {0: "batch"}},
                custom_translation_table=translations(),
                verbose=False,
            )
    except ExportFailed:
        raise
    # Torch's exporter lets through whatever an operator's translation raises.
    except Exception as error:
        raise ExportFailed(f"The network cannot be written as ONNX: {cause(error)}") from error
    assert program is not None
    return program.model


def _captured(candidate: Candidate, precision: OutputPrecision) -> ExportedProgram:
    if precision is OutputPrecision.FLOAT16:
        return float16.computing(candidate.module, candidate.input_shape)
    module = deployed(candidate) if precision is OutputPrecision.AS_PLANNED else candidate.module
    return exported(module, candidate.input_shape)


def _strip(model: ir.Model) -> None:
    """Remove every trace of the machine: exporters leave stack traces with file paths in the metadata of nodes."""
    model.doc_string = None
    model.producer_name, model.producer_version = "modelpress", None
    ClearMetadataAndDocStringPass()(model)
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            value.metadata_props.clear()


def _describe(model: ir.Model, candidate: Candidate) -> None:
    model.graph.name = candidate.architecture.name
    model.metadata_props.clear()
    model.metadata_props.update(description(candidate))


def _bytes_of_weights(model: ir.Model) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def _write(model: ir.Model, path: Path) -> None:
    proto = ir.to_proto(model)
    _check(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _write_zip(model: ir.Model, path: Path) -> Path:
    with TemporaryDirectory(dir=path.parent) as folder:
        graph = Path(folder, onnx_zip.GRAPH)
        ir.save(model, graph, external_data=onnx_zip.WEIGHTS)
        _check(graph)
        onnx_zip.pack(Path(folder), path)
    return path


def _check(model: onnx.ModelProto | Path) -> None:
    try:
        onnx.checker.check_model(str(model) if isinstance(model, Path) else model)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"The ONNX checker refuses the file: {cause(error)}") from error
