import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compressor.manifest import audit, listed
from compressor.report.document import ReportDocument
from compressor.report.figures import ratios
from contract.artifact import ArtifactFormat
from contract.failures import ArtifactMismatch
from contract.report import Accuracy, Report


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        ("model.safetensors", ArtifactFormat.SAFETENSORS, "application/octet-stream"),
        ("model.float32.safetensors", ArtifactFormat.SAFETENSORS, "application/octet-stream"),
        ("model.json", ArtifactFormat.MODEL_JSON, "application/json"),
        ("model.onnx", ArtifactFormat.ONNX, "application/octet-stream"),
        ("model.onnx.zip", ArtifactFormat.ONNX, "application/zip"),
        ("model.xml", ArtifactFormat.OPENVINO, "application/xml"),
        ("model.float32.bin", ArtifactFormat.OPENVINO, "application/octet-stream"),
        ("model.pt2", ArtifactFormat.TORCH_EXPORT, "application/octet-stream"),
        ("model.float32.inductor.pt2", ArtifactFormat.TORCH_INDUCTOR, "application/octet-stream"),
        ("model.pte", ArtifactFormat.EXECUTORCH, "application/octet-stream"),
        ("report.json", ArtifactFormat.REPORT, "application/json"),
        ("report.html", ArtifactFormat.REPORT, "text/html; charset=utf-8"),
    ],
)
def test_a_file_is_listed_as_it_is(tmp_path: Path, name: str, kind: ArtifactFormat, media_type: str) -> None:
    # Given a file
    path = tmp_path / name
    path.write_bytes(b"bytes")
    # When it is listed, then its kind, bytes and digest are those of the file
    file = listed(path)
    assert (file.filename, file.format, file.media_type, file.size_bytes) == (name, kind, media_type, 5)
    assert file.sha256 == hashlib.sha256(b"bytes").hexdigest()


@pytest.fixture
def honest(document: ReportDocument, tmp_path: Path) -> ReportDocument:
    """A report beside files of which it is true."""
    (tmp_path / "model.onnx").write_bytes(b"x" * 735_310)
    kept = listed(tmp_path / "model.onnx", verified=document.files[0].verified, fastest=True)
    return document.model_copy(update={"files": (kept,)})


def test_an_honest_report_passes(honest: ReportDocument, tmp_path: Path) -> None:
    audit(honest, tmp_path)


def with_report(document: ReportDocument, **changes: object) -> ReportDocument:
    report = document.result.report.model_copy(update=changes)
    return document.model_copy(update={"result": document.result.model_copy(update={"report": report})})


def flattered(report: Report, **figures: object) -> dict[str, object]:
    after = report.compressed.model_copy(update=figures)
    return {"compressed": after, "ratio": ratios(report.baseline, after)}


LIES: dict[str, Callable[[ReportDocument], ReportDocument]] = {
    "a better accuracy": lambda d: with_report(
        d, **flattered(d.result.report, accuracy=Accuracy(value=1.0, n=540, ci95=(0.99, 1.0)))
    ),
    "fewer bytes": lambda d: with_report(d, **flattered(d.result.report, size_bytes=1000)),
    "a better latency": lambda d: with_report(
        d,
        **flattered(d.result.report, latency=d.result.report.compressed.latency.model_copy(update={"p50_ms": 0.01})),  # type: ignore[union-attr]
    ),
    "a better ratio": lambda d: with_report(d, ratio=d.result.report.ratio.model_copy(update={"macs": 0.01})),
    "another digest": lambda d: d.model_copy(update={"files": (d.files[0].model_copy(update={"sha256": "0" * 64}),)}),
    "no proof": lambda d: d.model_copy(update={"files": (d.files[0].model_copy(update={"verified": None}),)}),
}


@pytest.mark.parametrize("lie", LIES)
def test_falsified_figures_are_caught(honest: ReportDocument, tmp_path: Path, lie: str) -> None:
    # Given a report in which one figure is not what was measured
    falsified = LIES[lie](honest)
    assert falsified != honest
    # When it is held against the files, then it does not pass
    with pytest.raises(ArtifactMismatch):
        audit(falsified, tmp_path)


@pytest.mark.parametrize(("weights", "honest_size"), [("model.bin", True), ("model.float32.bin", False)])
def test_the_bytes_of_a_form_are_those_of_all_its_files(
    honest: ReportDocument, tmp_path: Path, weights: str, honest_size: bool
) -> None:
    # Given the report of a form of two files, or of one file beside another form's
    (tmp_path / "model.xml").write_bytes(b"x" * 35_310)
    (tmp_path / weights).write_bytes(b"x" * 700_000)
    files = (listed(tmp_path / "model.xml", verified=honest.files[0].verified), listed(tmp_path / weights))
    document = honest.model_copy(update={"files": files})
    # When it is held against them, then it passes where its bytes are their sum
    if honest_size:
        audit(document, tmp_path)
    else:
        with pytest.raises(ArtifactMismatch, match="figures"):
            audit(document, tmp_path)


def test_a_file_that_changed_after_its_proof_is_caught(honest: ReportDocument, tmp_path: Path) -> None:
    # Given a file of which one byte is another since it was proven
    (tmp_path / "model.onnx").write_bytes(b"y" + b"x" * 735_309)
    # When the report is held against it, then it does not pass
    with pytest.raises(ArtifactMismatch, match=r"model\.onnx"):
        audit(honest, tmp_path)
