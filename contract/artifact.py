"""What a job delivers."""

from enum import StrEnum

from pydantic import Field

from contract.report import Verification
from contract.value import Instant, Links, Sha256, Value


class ArtifactFormat(StrEnum):
    """What a delivered file is."""

    SAFETENSORS = "safetensors"
    MODEL_JSON = "model_json"
    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH_EXPORT = "torch_export"
    TORCH_INDUCTOR = "torch_inductor"
    EXECUTORCH = "executorch"
    REPORT = "report"
    LOG = "log"


class OutputFormat(StrEnum):
    """The formats that a job can be asked for."""

    #: `model.safetensors` and `model.json`, which `modelpress.load_model` reads.
    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    #: `model.xml`, the graph, and `model.bin`, its weights.
    OPENVINO = "openvino"
    #: `model.pt2`, a program of torch's own operators.
    TORCH_EXPORT = "torch_export"
    #: `model.inductor.pt2`, a program for `torch.compile` with frozen weights: floats, or INT8 on x86.
    TORCH_INDUCTOR = "torch_inductor"
    #: `model.pte`, a program for one image a call, whose layers XNNPACK computes on phones and other processors.
    EXECUTORCH = "executorch"


class OutputPrecision(StrEnum):
    """What the numbers of a file are."""

    #: What the steps have made of them.
    AS_PLANNED = "as_planned"
    #: Floats, whatever the steps have planned.
    FLOAT32 = "float32"
    #: Floats of half the size, in which all is computed between input and output.
    FLOAT16 = "float16"


class Quantizer(StrEnum):
    """Who has chosen the integers of a file."""

    #: The job's steps: scales and codes are those of their plan.
    PLAN = "plan"
    #: Intel's NNCF, for OpenVINO: where quantize_static has its integers, on the same images, by means of its own.
    NNCF = "nncf"


class ArtifactFile(Value):
    """A file that a runner leaves, before it is stored."""

    filename: str
    format: ArtifactFormat
    media_type: str
    size_bytes: int
    sha256: Sha256
    verified: Verification | None = None
    fastest: bool = False
    #: Whether the file belongs to a job that did not prove it.
    partial: bool = False


class Artifact(ArtifactFile):
    """A stored file of a job."""

    id: str
    created_at: Instant
    links: Links = Field(default_factory=dict)


class ArtifactList(Value):
    """Every file of a job."""

    data: tuple[Artifact, ...]
