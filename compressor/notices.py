"""What a client should know of a job that went well: above all, gains that are not there."""

from collections.abc import Iterator, Sequence

from compressor.delivery import primary
from compressor.verify import Proof
from contract.report import Notice, Report
from contract.spec import JobSpec, UntrainedModel

#: Sizes and latencies closer than this are the same.
_SAME_SIZE = 0.005
_SAME_LATENCY = 0.05


def notices(spec: JobSpec, report: Report, masked: int, proofs: Sequence[Proof]) -> tuple[Notice, ...]:
    """The warnings of a whole job; `masked` is how many weights of what is delivered are pruned, but still there."""
    return (
        *_of_model(spec, report),
        *_of_size(report),
        *_of_latency(proofs),
        *_of_masks(report, masked),
        *_of_host(proofs),
    )


def _of_model(spec: JobSpec, report: Report) -> Iterator[Notice]:
    if report.compressed.accuracy is None:
        detail = (
            "The job names no evaluation data, so nothing is known of accuracy. Name a dataset under data.evaluation."
        )
        yield Notice(code="accuracy_not_measured", detail=detail)
    if isinstance(spec.model, UntrainedModel) and not any(step.recipe for step in spec.steps):
        detail = "The model came without weights and no step trained it: its answers are those of random weights."
        yield Notice(code="untrained_model", detail=detail)


def _of_size(report: Report) -> Iterator[Notice]:
    if report.ratio.size_bytes > 1 + _SAME_SIZE:
        before, after = report.baseline.size_bytes, report.compressed.size_bytes
        detail = f"The file has {after:,} bytes; the model's float32 file in the same format has {before:,}."
        yield Notice(code="larger_on_disk", detail=detail)


def _of_latency(proofs: Sequence[Proof]) -> Iterator[Notice]:
    main = primary([proof.delivery.output for proof in proofs]) if proofs else None
    for proof in proofs:
        found, before = proof.verification.latency, proof.verification.baseline_latency
        # Other files of floats were asked for beside the one whose figures are the job's, and not for being faster.
        counts = proof.delivery.output == main or proof.verification.int8_macs_fraction
        if counts and found and before and found.p50_ms > (1 + _SAME_LATENCY) * before.p50_ms:
            detail = (
                f"One batch takes {found.p50_ms / before.p50_ms:.2f} times as long with {proof.delivery.main.name} as "
                "with the model's float32 file in the same runtime."
            )
            yield Notice(code="slower_than_baseline", detail=detail)


def _of_masks(report: Report, masked: int) -> Iterator[Notice]:
    # Whatever was gained was not gained by them: no runtime that we deliver for skips zeros.
    if masked:
        detail = (
            f"{masked:,} of {report.compressed.parameters:,} weights are zero, but multiplied like all others: no "
            "runtime here skips them, and only model.safetensors is smaller for them. prune_channels removes what it "
            "prunes."
        )
        yield Notice(code="masked_only", detail=detail)


def _of_host(proofs: Sequence[Proof]) -> Iterator[Notice]:
    if any(proof.verification.noisy_host for proof in proofs):
        detail = "Other processes kept the host busy while latency was measured, so its figures may be off."
        yield Notice(code="noisy_host", detail=detail)
