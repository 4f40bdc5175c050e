"""What is measured, with units, and what it is compared with.

Sizes are bytes of files, MACs are multiply-accumulates for one image, latencies are milliseconds for one batch.
"""

from typing import Literal

from pydantic import Field

from contract.value import Json, Value


class Accuracy(Value):
    """Top-1 accuracy with its 95 % Wilson interval (Wilson 1927)."""

    value: float
    #: Images it was measured on.
    n: int
    ci95: tuple[float, float]


class PairedDrop(Value):
    """How much accuracy was lost, on the same images; the interval is that of the paired difference."""

    #: Baseline minus compressed: positive is a loss.
    value: float
    n: int
    ci95: tuple[float, float]


class Gain(Value):
    """What a teacher is worth: how much more often a student is right than without it, on the same images."""

    #: With the teacher minus without.
    value: float
    n: int
    #: Of the paired difference.
    ci95: tuple[float, float]


class Latency(Value):
    """Time for one batch in a process of its own."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    #: Timed runs.
    n: int
    batch_size: int
    threads: int
    #: Such as `onnxruntime 1.32.0`.
    runtime: str
    device: str
    #: The widest vector instructions that the processor has, such as `avx512_vnni`.
    instruction_set: str


class Fidelity(Value):
    """How close the answers are to the baseline's on the same images."""

    top1_agreement: float
    max_abs_difference: float
    #: Signal to quantization-noise ratio of the logits, 10 log10(sum(x^2) / sum((x - y)^2)); null where equal.
    sqnr_db: float | None


class Measurement(Value):
    """One state of the model, measured."""

    accuracy: Accuracy | None = None
    #: Mean cross-entropy on the evaluation data, in nats.
    loss: float | None = None
    #: Expected calibration error on the evaluation data (Guo et al. 2017), between 0 and 1.
    calibration_error: float | None = None
    parameters: int
    nonzero_parameters: int
    macs: int
    #: Of all files of the form: where there are a graph and weights beside it, of both.
    size_bytes: int
    latency: Latency | None = None
    #: Time from the file to a session that can answer, in seconds.
    load_seconds: float | None = None
    #: Largest resident memory of the process that ran it, in bytes.
    peak_memory_bytes: int | None = None


class Ratios(Value):
    """Compressed over baseline: below 1 is better."""

    size_bytes: float
    latency: float | None = None
    parameters: float
    macs: float


class LayerBefore(Value):
    """What a layer was before a step."""

    shape: tuple[int, ...]
    parameters: int
    zeros: float
    macs: int


class LayerReport(Value):
    """One layer after a step."""

    name: str
    kind: str
    #: Of its weight.
    shape: tuple[int, ...]
    parameters: int
    #: Fraction of the weight's entries that are zero.
    zeros: float
    macs: int
    #: Bits of a stored weight.
    bits: int = 32
    #: Null where the step has put the layer in.
    before: LayerBefore | None = None


class Histogram(Value):
    """How many weights are how large, before and after a step."""

    #: Of magnitude, one more than there are bins.
    edges: tuple[float, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    #: Weights that are exactly zero are in no bin.
    zeros_before: int
    zeros_after: int
    #: The magnitude up to which weights were cut, where one was given.
    threshold: float | None = None


class LayerSensitivity(Value):
    """What pruning one layer alone does to the answers, for each amount."""

    name: str
    #: KL(original || pruned), in nats.
    kl: tuple[float, ...]
    #: Part of the images with the same class.
    agreement: tuple[float, ...]


class Sensitivity(Value):
    """What each layer can lose."""

    #: Parts of a layer's weights that were zeroed.
    amounts: tuple[float, ...]
    layers: tuple[LayerSensitivity, ...]


class LayerNoise(Value):
    """What quantization does to what one layer gives, all layers before it quantized too."""

    name: str
    #: Signal to quantization noise, 10 log10(sum(x^2) / sum((x - y)^2)); null where nothing differs.
    sqnr_db: float | None


class Flips(Value):
    """How often the answer changed among the images that the float network puts into one class."""

    name: str
    images: int
    flipped: int


class QuantizationFidelity(Value):
    """How near a quantized network stays to the float one, on calibration images without their labels."""

    images: int
    top1_agreement: float
    #: KL(float || quantized), in nats.
    kl: float
    layers: tuple[LayerNoise, ...]
    #: Classes of which an answer changed.
    flips: tuple[Flips, ...]


class FactorizedLayer(Value):
    """A layer in whose place a step has put several of low rank."""

    name: str
    #: Such as `spatial`.
    scheme: str
    ranks: tuple[int, ...]
    full_ranks: tuple[int, ...]
    #: Part of what the layer gives out, in squares, that is kept, weighed by what the loss makes of it where that was
    #: looked at; without data, of its weight.
    kept: float
    #: Before and after the step.
    parameters: tuple[int, int]
    macs: tuple[int, int]


#: What a job can warn of.
NoticeCode = Literal[
    "masked_only",
    "slower_than_baseline",
    "larger_on_disk",
    "accuracy_not_measured",
    "data_not_normalized",
    "other_weights_in_file",
    "noisy_host",
    "untrained_model",
    "little_to_quantize",
    "few_calibration_images",
    "constant_activations",
    "empty_channels",
    "other_target",
    "layers_left_alone",
    "rounded_to_nearest",
    "larger_than_teacher",
    "teacher_sees_enlarged",
    "teacher_images_not_held",
    "gain_not_measured",
    "answers_not_kept",
    "classes_by_order",
    "other_preprocessing",
    "low_bit_is_storage_only",
    "values_became_zero",
    "layers_all_zero",
    "ruined_by_training",
]


class Notice(Value):
    """Something the client should know although the job went on."""

    code: NoticeCode
    detail: str


class StepReport(Value):
    """One step: what the model was after it, and what the method has to say."""

    measurement: Measurement
    drop: PairedDrop | None = None
    fidelity: Fidelity | None = None
    layers: tuple[LayerReport, ...] = ()
    #: Fraction of zeros over all the weights that can be pruned.
    zeros: float = 0.0
    seconds: float
    #: What only this method can tell, such as learning curves or the layers it left alone.
    details: dict[str, Json] = Field(default_factory=dict)
    warnings: tuple[Notice, ...] = ()


class Environment(Value):
    """Where the figures come from."""

    instruction_set: str
    processor: str
    cores: int
    threads: int
    device: str
    #: Versions by package.
    versions: dict[str, str]


class Verification(Value):
    """The truth test of one file: what a clean process read, ran and measured."""

    runtime: str
    accuracy: Accuracy | None = None
    drop: PairedDrop | None = None
    #: Against the candidate's own answers, before it was written.
    top1_agreement: float
    max_abs_difference: float
    latency: Latency | None = None
    #: The float32 baseline in the same format and runtime, timed in alternating blocks.
    baseline_latency: Latency | None = None
    ratio_to_onnx_float32: float | None = None
    #: Part of the MACs that the runtime's optimized graph does in integers.
    int8_macs_fraction: float | None = None
    #: Of an ONNX file, the version of the operators that it is written with; codes of four bits need a newer one.
    opset: int | None = None
    load_seconds: float | None = None
    peak_memory_bytes: int | None = None
    noisy_host: bool = False
    #: Another library that chose the scales, where it was not ours.
    realized_by: str | None = None


class Report(Value):
    """A job's figures: the primary artifact's, measured on the delivered file."""

    baseline: Measurement
    compressed: Measurement
    ratio: Ratios
    drop: PairedDrop | None = None
    fidelity: Fidelity | None = None
    environment: Environment
