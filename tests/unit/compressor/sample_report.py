"""A job's figures as a real one has them: ResNet-18 on scanned digits, pruned, distilled and quantized."""

from compressor.report.document import ReportDocument
from contract.artifact import ArtifactFile, ArtifactFormat
from contract.job import JobResult, Verdict
from contract.methods.distill import Distill
from contract.methods.prune import PruneChannels
from contract.methods.quantize import QuantizeStatic
from contract.model import Architecture
from contract.report import (
    Accuracy,
    Environment,
    Fidelity,
    Latency,
    LayerReport,
    Measurement,
    Notice,
    PairedDrop,
    Ratios,
    Report,
    StepReport,
    Verification,
)
from contract.spec import Constraint, DataUse, JobSpec, Metric

ULID = "01JD0000000000000000000000"


def accuracy(hits: int) -> Accuracy:
    n = 540
    return Accuracy(value=hits / n, n=n, ci95=(hits / n - 0.012, min(1.0, hits / n + 0.009)))


def latency(p50: float) -> Latency:
    return Latency(
        p50_ms=p50,
        p90_ms=1.08 * p50,
        p99_ms=1.31 * p50,
        n=100,
        batch_size=1,
        threads=2,
        runtime="onnxruntime 1.32.0",
        device="cpu",
        instruction_set="avx512_vnni",
    )


def state(hits: int, *, parameters: int, macs: int, size: int, nonzero: int | None = None) -> Measurement:
    return Measurement(
        accuracy=accuracy(hits),
        loss=0.061,
        calibration_error=0.012,
        parameters=parameters,
        nonzero_parameters=nonzero or parameters,
        macs=macs,
        size_bytes=size,
    )


def layers(channels: int, bits: int) -> tuple[LayerReport, ...]:
    return tuple(
        LayerReport(
            name=f"layer{stage}.{block}.conv{place}",
            kind="Conv2d",
            shape=(channels << stage, channels << stage, 3, 3),
            parameters=9 * (channels << stage) ** 2,
            zeros=0.11 * stage,
            macs=36 * (channels << stage) ** 2,
            bits=bits,
        )
        for stage in range(1, 5)
        for block in range(2)
        for place in range(1, 3)
    )


def step(measurement: Measurement, drop: float, bits: int, seconds: float, **details: float) -> StepReport:
    return StepReport(
        measurement=measurement,
        drop=PairedDrop(value=drop, n=540, ci95=(drop - 0.006, drop + 0.007)),
        fidelity=Fidelity(top1_agreement=0.991, max_abs_difference=0.8, sqnr_db=22.5),
        layers=layers(16, bits),
        zeros=0.031,
        seconds=seconds,
        details=dict(details),
    )


def sample_document() -> ReportDocument:
    """The report of one finished job."""
    baseline = state(534, parameters=11_175_370, macs=148_550_656, size=44_700_412).model_copy(
        update={"latency": latency(2.41), "load_seconds": 0.061, "peak_memory_bytes": 165_000_000}
    )
    compressed = state(532, parameters=701_466, macs=9_571_328, size=735_310).model_copy(
        update={"latency": latency(0.212), "load_seconds": 0.019, "peak_memory_bytes": 71_000_000}
    )
    drop = PairedDrop(value=2 / 540, n=540, ci95=(-0.0046, 0.0121))
    proof = Verification(
        runtime="onnxruntime 1.32.0",
        accuracy=compressed.accuracy,
        drop=drop,
        top1_agreement=0.998,
        max_abs_difference=0.21,
        latency=compressed.latency,
        baseline_latency=baseline.latency,
        ratio_to_onnx_float32=0.212 / 2.41,
        int8_macs_fraction=0.997,
        load_seconds=0.019,
        peak_memory_bytes=71_000_000,
    )
    constraint = Constraint(metric=Metric.ACCURACY, kind="max_drop", value=0.01)
    steps = (PruneChannels(ratio=0.75), Distill(epochs=6, learning_rate=2e-3), QuantizeStatic())
    spec = JobSpec(model=f"mdl_{ULID}", data=DataUse(train=f"dat_{ULID}"), steps=steps, constraints=(constraint,))
    return ReportDocument(
        architecture=Architecture(name="resnet18", options={"num_classes": 10}),
        spec=spec,
        result=JobResult(
            report=Report(
                baseline=baseline,
                compressed=compressed,
                ratio=Ratios(
                    size_bytes=735_310 / 44_700_412,
                    latency=0.212 / 2.41,
                    parameters=701_466 / 11_175_370,
                    macs=9_571_328 / 148_550_656,
                ),
                drop=drop,
                fidelity=Fidelity(top1_agreement=0.994, max_abs_difference=1.93, sqnr_db=19.1),
                environment=Environment(
                    instruction_set="avx512_vnni",
                    processor="AMD EPYC",
                    cores=2,
                    threads=2,
                    device="cpu",
                    versions={"python": "3.11.11", "modelpress": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.32.0"},
                ),
            ),
            outcome="met",
            constraints=(Verdict(**constraint.model_dump(), actual=2 / 540, met=True),),
            warnings=(
                Notice(code="noisy_host", detail="Other processes kept the host busy while latency was measured."),
            ),
        ),
        steps=(
            step(state(61, parameters=701_466, macs=9_571_328, size=2_850_000), 0.876, 32, 1.9, kept_channels=0.25),
            step(state(533, parameters=701_466, macs=9_571_328, size=2_850_000), 1 / 540, 32, 41.7, final_loss=0.084),
            step(state(532, parameters=701_466, macs=9_571_328, size=741_000), 2 / 540, 8, 3.2, samples=256.0),
        ),
        files=(
            ArtifactFile(
                filename="model.onnx",
                format=ArtifactFormat.ONNX,
                media_type="application/octet-stream",
                size_bytes=735_310,
                sha256="5e" * 32,
                verified=proof,
                fastest=True,
            ),
            ArtifactFile(
                filename="model.safetensors",
                format=ArtifactFormat.SAFETENSORS,
                media_type="application/octet-stream",
                size_bytes=741_000,
                sha256="a1" * 32,
                verified=proof.model_copy(
                    update={"runtime": "torch 2.13.0", "latency": latency(5.1), "ratio_to_onnx_float32": 2.1}
                ),
            ),
            ArtifactFile(
                filename="model.json",
                format=ArtifactFormat.MODEL_JSON,
                media_type="application/json",
                size_bytes=9_100,
                sha256="07" * 32,
            ),
        ),
    )
