"""A job spec: which model, which data, which steps, and what must hold at the end."""

from enum import IntEnum, StrEnum
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from contract.artifact import OutputFormat, OutputPrecision, Quantizer
from contract.dataset import DatasetCreation
from contract.methods import METHODS, Params
from contract.model import Architecture, ClassNames, ModelCreation, PreprocessingChoice
from contract.value import AT_LEAST_ONE, Metadata, Value

if TYPE_CHECKING:
    Step = Params
else:
    #: One step: the params of a method, told apart by `method`.
    Step = Annotated[reduce(or_, METHODS.values()), Field(discriminator="method")]

ModelId = Annotated[str, Field(pattern=r"^mdl_[0-9A-HJKMNP-TV-Z]{26}$")]
DatasetId = Annotated[str, Field(pattern=r"^dat_[0-9A-HJKMNP-TV-Z]{26}$")]


class UntrainedModel(Value):
    """An architecture without weights of its own, for methods that can start from nothing."""

    architecture: Architecture
    weights: Literal["none"]
    preprocessing: PreprocessingChoice = PreprocessingChoice()
    classes: ClassNames | None = None


class DataUse(Value):
    """Which dataset serves for what."""

    train: DatasetId | None = None
    calibration: DatasetId | None = None
    evaluation: DatasetId | None = None


class Metric(StrEnum):
    """What a constraint can be about."""

    ACCURACY = "accuracy"
    SIZE_BYTES = "size_bytes"
    LATENCY = "latency"
    PARAMETERS = "parameters"
    MACS = "macs"


class Constraint(Value):
    """What must hold of the primary artifact.

    `max_drop` is for accuracy: `absolute` is in points of the fraction (0.01 is one percentage point), `relative` in
    parts of the baseline. `max_ratio` is compressed over baseline. `max` and `min` bound the figure itself (latency:
    p50 in milliseconds).
    """

    metric: Metric
    kind: Literal["max_drop", "max_ratio", "max", "min"]
    value: float = Field(ge=0)
    unit: Literal["absolute", "relative"] = "absolute"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.kind in ("max_drop", "min")) != (self.metric is Metric.ACCURACY):
            raise ValueError("accuracy takes max_drop or min, every other metric max_ratio or max")
        return self


class OutputOptions(Value):
    """How a file is made."""

    quantizer: Quantizer = Quantizer.PLAN


class Output(Value):
    """A file to be delivered."""

    format: OutputFormat
    precision: OutputPrecision = OutputPrecision.AS_PLANNED
    options: OutputOptions = OutputOptions()


def _output(value: Any) -> Any:
    return {"format": value} if isinstance(value, str) else value


class LatencySetup(Value):
    """How latency is measured."""

    batch_size: int = Field(default=1, ge=1, le=1024)
    #: Null: the worker's cores divided by its slots.
    threads: int | None = Field(default=None, ge=1, le=256)


class EvaluationSetup(Value):
    """What is measured at the two ends."""

    metrics: tuple[Literal["accuracy"], ...] = ("accuracy",)
    latency: LatencySetup = LatencySetup()


class Limits(Value):
    """Bounds after which a job is stopped."""

    max_queue_seconds: int = Field(default=86_400, ge=1, le=2_592_000)
    max_run_seconds: int = Field(default=86_400, ge=1, le=2_592_000)
    #: Resident memory of the job's processes; null takes the worker's own limit.
    max_memory_bytes: int | None = Field(default=None, ge=268_435_456)


class Priority(IntEnum):
    """Who goes first: the larger number."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class JobOptions(Value):
    """What a job is, but for the resources that it uses."""

    steps: tuple[Step, ...] = Field(default=(), max_length=32)
    constraints: tuple[Constraint, ...] = Field(default=(), max_length=16)
    on_unmet: Literal["fail", "keep_best"] = "keep_best"
    outputs: Annotated[tuple[Annotated[Output, BeforeValidator(_output)], ...], AT_LEAST_ONE] = Field(
        default=(Output(format=OutputFormat.SAFETENSORS), Output(format=OutputFormat.ONNX)),
        max_length=8,
        json_schema_extra={"minItems": 1},
    )
    evaluation: EvaluationSetup = EvaluationSetup()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    limits: Limits = Limits()
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    priority: Literal["low", "normal", "high"] = "normal"
    #: Seconds after its end at which the job and its artifacts are deleted; null keeps them.
    expires_after: int | None = Field(default=None, ge=60, le=315_360_000)
    metadata: Metadata = Field(default_factory=dict)


class JobSpec(JobOptions):
    """A job over resources that are already there; every default resolved."""

    model: ModelId | UntrainedModel
    data: DataUse = DataUse()


class InlineData(Value):
    """Datasets that arrive with the job, or are there already."""

    train: DatasetId | DatasetCreation | None = None
    calibration: DatasetId | DatasetCreation | None = None
    evaluation: DatasetId | DatasetCreation | None = None


class InlineJobSpec(JobOptions):
    """A multipart job's spec: creation bodies stand where the parts bring the bytes."""

    model: ModelId | UntrainedModel | ModelCreation
    data: InlineData = InlineData()
    #: The model that the part `teacher` brings; a distil step asks for it as `"teacher": "uploaded"`.
    teacher: ModelCreation | None = None
