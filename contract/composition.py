"""Which steps may follow which, and what they need: all that can be said of a spec without the model itself."""

from collections.abc import Iterator, Mapping, Sequence

from contract.artifact import OutputFormat, OutputPrecision, Quantizer
from contract.failures import AlreadyQuantized, Fault, InvalidSpec, MissingData, WrongOrder
from contract.methods import Params, Recovery, Role, Stage
from contract.methods.aware import QuantizeAware
from contract.methods.cast import Cast
from contract.methods.low_bit import QuantizeWeights
from contract.methods.params import step_named
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from contract.spec import DataUse, JobOptions, Output, UntrainedModel

#: Methods whose results a format cannot hold, why, and what can.
_NOT_HELD: Mapping[OutputFormat, tuple[tuple[type[Params], ...], str, str]] = {
    OutputFormat.OPENVINO: (
        (QuantizeDynamic,),
        "OpenVINO has no integer kernel for layers that quantize their input as it comes, as those of",
        "onnx",
    ),
    OutputFormat.TORCH_EXPORT: (
        (QuantizeStatic, QuantizeAware),
        "Torch's own operators have no integer kernel for activations of a fixed range, as those of",
        "onnx or torch_inductor",
    ),
    OutputFormat.EXECUTORCH: (
        (QuantizeWeights, Cast),
        "ExecuTorch has no kernel for weights that are stored in fewer bits beside inputs of floats, as those of",
        "onnx",
    ),
}
#: Stages whose steps give weights their codes.
_CODING = (Stage.STORAGE, Stage.PRECISION)


def faults_of_order(options: JobOptions) -> Iterator[Fault]:
    """Steps that make no sense where they stand."""
    for index, step in enumerate(options.steps):
        before = options.steps[:index]
        quantizer = next((s for s in before if s.stage in _CODING and not _may_follow(step, s)), None)
        if quantizer is not None:
            yield _after_quantization(index, step, quantizer)
        if step.stage is Stage.ARCHITECTURE and before:
            yield Fault(
                pointer=f"/steps/{index}",
                code=WrongOrder.code,
                detail=f"{step.method} throws away what the steps before it did. Put it first.",
            )


def faults_of_classes(options: JobOptions) -> Iterator[Fault]:
    """Steps that choose among classes that another step has chosen."""
    choosing = [index for index, step in enumerate(options.steps) if step.kept_classes is not None]
    for index in choosing[1:]:
        detail = f"Step {choosing[0]} keeps some classes already. Keep those that are wanted in one step."
        yield Fault(pointer=f"/steps/{index}/keep_classes", code=InvalidSpec.code, detail=detail)


def _may_follow(step: Params, quantizer: Params) -> bool:
    if step.takes_the_rest and type(step) is not type(quantizer):
        return True
    if quantizer.stage is Stage.STORAGE and step.adds_activations:
        return True
    if _codes_after(step, quantizer):
        return not (_takes_all(step) and _takes_all(quantizer))
    return quantizer.stage is Stage.STORAGE and step.keeps_codes


def _codes_after(step: Params, quantizer: Params) -> bool:
    """Whether the step gives codes to what the quantizer has left; none does that would train its integers."""
    if step.recipe and quantizer.stage is Stage.PRECISION:
        return False
    return step.stage is Stage.PRECISION or step.stage is quantizer.stage is Stage.STORAGE


def _takes_all(step: Params) -> bool:
    return getattr(step, "include", ("*",)) == ("*",) and not getattr(step, "exclude", ())


def _after_quantization(index: int, step: Params, quantizer: Params) -> Fault:
    pointer = f"/steps/{index}"
    if _codes_after(step, quantizer):
        return Fault(
            pointer=pointer,
            code=AlreadyQuantized.code,
            detail=f"{quantizer.method} has taken the layers that {step.method} would take. "
            "Drop one of the two, or part the layers between them with include and exclude.",
        )
    kind = "train" if step.recipe else "change"
    return Fault(
        pointer=pointer,
        code=WrongOrder.code,
        detail=f"{step.method} would {kind} a model whose precision {quantizer.method} has settled. "
        f"Put {step.method} before {quantizer.method}.",
    )


def faults_of_data(options: JobOptions, present: frozenset[Role]) -> Iterator[Fault]:
    """Steps whose data the job does not name; training data stands in for calibration data."""
    usable = present | ({Role.CALIBRATION} if Role.TRAIN in present else frozenset())
    for index, step in enumerate(options.steps):
        for role in sorted(step.roles - usable):
            yield Fault(
                pointer=f"/steps/{index}",
                code=MissingData.code,
                detail=f"{step.method} needs data. Name a dataset under data.{role}.",
            )


def faults_of_teachers(options: JobOptions, *, untrained: bool) -> Iterator[Fault]:
    """Distillation from a model that has learnt nothing, or that is not there yet."""
    for index, step in enumerate(options.steps):
        for place, name in step.models.items():
            pointer = f"/steps/{index}{place}"
            if untrained and name == "original":
                detail = "The original has no weights, so it cannot teach. Name another model as teacher."
                yield Fault(pointer=pointer, code=InvalidSpec.code, detail=detail)
            if (earlier := step_named(name)) is not None and earlier >= index:
                detail = f"{name} is no step before this one, so it cannot teach it. The first step is step_0."
                yield Fault(pointer=pointer, code=WrongOrder.code, detail=detail)
        if untrained and isinstance(step.recipe, Recovery) and step.recipe.distill_from_original:
            place = "" if isinstance(step, Recovery) else "/training"
            yield Fault(
                pointer=f"/steps/{index}{place}/distill_from_original",
                code=InvalidSpec.code,
                detail="The original has no weights, so it cannot teach. Set distill_from_original to false.",
            )


def faults_of_outputs(options: JobOptions) -> Iterator[Fault]:
    """Formats that cannot hold what the steps make."""
    for index, output in enumerate(options.outputs):
        kinds, reason, instead = _NOT_HELD.get(output.format, ((), "", ""))
        steps = enumerate(options.steps)
        step = next((s for at, s in steps if isinstance(s, kinds) and not _completed(s, options.steps[at + 1 :])), None)
        if step is not None and output.precision is OutputPrecision.AS_PLANNED:
            yield Fault(
                pointer=f"/outputs/{index}",
                code=InvalidSpec.code,
                detail=f"{reason} {step.method} do. "
                f'Ask for {instead}, or for {output.format} with the precision "float32".',
            )


def faults_of_quantizers(options: JobOptions, present: frozenset[Role]) -> Iterator[Fault]:
    """Files whose integers another than the steps shall choose, where it cannot or nobody could tell how well."""
    for index, output in enumerate(options.outputs):
        if output.options.quantizer is Quantizer.NNCF:
            pointer = f"/outputs/{index}/options/quantizer"
            if Role.EVALUATION not in present:
                detail = "What NNCF makes can be proven by its accuracy alone. Name a dataset under data.evaluation."
                yield Fault(pointer=pointer, code=MissingData.code, detail=detail)
            if (reason := _against_nncf(options.steps, output)) is not None:
                yield Fault(pointer=pointer, code=InvalidSpec.code, detail=reason)


def _against_nncf(steps: Sequence[Params], output: Output) -> str | None:
    """Why NNCF cannot choose the integers of this file."""
    if output.format is not OutputFormat.OPENVINO or output.precision is not OutputPrecision.AS_PLANNED:
        return "NNCF makes files of integers for openvino. Ask for that format, and for no other precision."
    match [step for step in steps if step.stage in _CODING]:
        case [QuantizeStatic(few_bits=False)]:
            return None
    return (
        "NNCF quantizes to INT8 in the place of quantize_static, on its images and but for the layers that it has left "
        "in float. The job needs that step, with eight bits, and no other that gives weights their codes."
    )


def _completed(step: Params, later: Sequence[Params]) -> bool:
    """Whether codes of weights get codes of activations beside them, so that both are multiplied as integers."""
    return isinstance(step, QuantizeWeights) and any(other.adds_activations for other in later)


def roles_of(data: DataUse) -> frozenset[Role]:
    """What the job has data for."""
    return frozenset(role for role in Role if getattr(data, role.value) is not None)


def faults(options: JobOptions, *, data: frozenset[Role], untrained: bool) -> tuple[Fault, ...]:
    """Everything that is wrong with a spec, as far as it can be known without the model."""
    return (
        *faults_of_order(options),
        *faults_of_classes(options),
        *faults_of_data(options, data),
        *faults_of_teachers(options, untrained=untrained),
        *faults_of_outputs(options),
        *faults_of_quantizers(options, data),
    )


def is_untrained(model: object) -> bool:
    """Whether the job's model is an architecture without weights."""
    return isinstance(model, UntrainedModel)
