"""The files of a job: listed with their digests, and compared with what is said of them."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

from compressor.delivery import kind_of
from compressor.report.document import ReportDocument
from compressor.report.figures import ratios
from compressor.verify import Proof
from contract.artifact import ArtifactFile, ArtifactFormat
from contract.failures import ArtifactMismatch
from contract.report import Verification

_MEDIA_TYPES = {
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".xml": "application/xml",
    ".zip": "application/zip",
}
_BINARY = "application/octet-stream"
REPORTS = ("report.json", "report.html")


def sha256(path: Path) -> str:
    """The file's digest in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(
    path: Path, *, verified: Verification | None = None, fastest: bool = False, partial: bool = False
) -> ArtifactFile:
    """One file as it lies there."""
    return ArtifactFile(
        filename=path.name,
        format=ArtifactFormat.REPORT if path.name in REPORTS else kind_of(path),
        media_type=_MEDIA_TYPES.get(path.suffix, _BINARY),
        size_bytes=path.stat().st_size,
        sha256=sha256(path),
        verified=verified,
        fastest=fastest,
        partial=partial,
    )


def listed_proofs(proofs: Sequence[Proof], out: Path, *, partial: bool) -> tuple[ArtifactFile, ...]:
    """The proven files, now in `out`; the proof stands at the file that the runtime is given."""
    ratio = {id(proof): proof.verification.ratio_to_onnx_float32 for proof in proofs}
    timed = [proof for proof in proofs if ratio[id(proof)] is not None]
    fastest = min(timed, key=lambda proof: ratio[id(proof)] or math.inf, default=None)
    return tuple(
        listed(
            out / path.name,
            verified=proof.verification if path == proof.delivery.main else None,
            fastest=path == proof.delivery.main and proof is fastest,
            partial=partial,
        )
        for proof in proofs
        for path in proof.delivery.files.values()
    )


def audit(document: ReportDocument, out: Path) -> None:
    """Recount what a report says of the files in `out`; raises ArtifactMismatch at the first figure that is not so."""
    for file in document.files:
        path = out / file.filename
        if not path.is_file() or path.stat().st_size != file.size_bytes or sha256(path) != file.sha256:
            raise ArtifactMismatch(f"{file.filename} is not the file of which the report tells.")
    report = document.result.report
    if ratios(report.baseline, report.compressed) != report.ratio:
        raise ArtifactMismatch("The report's ratios do not follow from its figures.")
    if not any(_tells_of(document, file) for file in document.files if file.verified):
        raise ArtifactMismatch("The report's figures are those of no file that was proven.")


def _tells_of(document: ReportDocument, file: ArtifactFile) -> bool:
    told, proof = document.result.report.compressed, file.verified
    return proof is not None and (told.size_bytes, told.accuracy, told.latency, told.load_seconds) == (
        sum(part.size_bytes for part in document.files if _form(part) == _form(file)),
        proof.accuracy,
        proof.latency,
        proof.load_seconds,
    )


def _form(file: ArtifactFile) -> tuple[ArtifactFormat, str]:
    """What files have in common that are one form of the model: a graph and the weights beside it."""
    return file.format, Path(file.filename).stem
