import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from compressor.report.document import ReportDocument
from compressor.report.page import page, write_reports
from compressor.report.plots import accuracy_against_size, points, svg, write_png
from contract.model import Architecture
from contract.report import Notice


class Tags(HTMLParser):
    """Collects tags, what they refer to, and whether they are closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_the_page_needs_nothing_beside_it(document: ReportDocument) -> None:
    # Given the page of a job
    html = page(document)
    tags = read(html)
    # Then it refers to nothing outside of itself, runs no script, and names no place on this machine
    assert all(reference.startswith("#") for reference in tags.references)
    assert not {"script", "link", "iframe", "object", "img"} & set(tags.seen)
    assert not re.search(r"@import|url\((?!#)", html)
    assert not re.search(r"(?<![\w.])/(home|tmp|usr|root|work)/", html)
    # And its tags are closed in order
    assert (tags.wrong, tags.open) == ([], [])
    # And nothing in it has the name of another thing
    names = re.findall(r' id="([^"]+)"', html)
    assert len(names) == len(set(names))


def test_the_page_tells_everything(document: ReportDocument) -> None:
    # Given the page of a job that pruned, distilled and quantized, with a constraint and a warning
    html = page(document)
    # Then a reader finds model, steps, figures, verdict, warning, layers, digests and how to load it
    for told in (
        "resnet18",
        "prune_channels",
        "ratio 0.75",
        "60.8",  # times smaller
        "11.4",  # times faster
        "−0.4 pp (−1.2 to +0.5)",
        "44.7 MB",
        "735 kB",
        "0.0164×",
        "max drop",
        "noisy_host",
        "layer4.1.conv2",
        "5e5e5e5e5e5e",
        "avx512_vnni",
        'InferenceSession("model.onnx")',
        "modelpress.load_model",
    ):
        assert told in html, told
    assert html.count("<svg") == 2


def test_without_data_the_page_claims_nothing_of_accuracy(document: ReportDocument) -> None:
    # Given a job without evaluation data and steps, that delivers safetensors alone
    report = document.result.report
    unknown = {"accuracy": None, "loss": None}
    blind = report.model_copy(
        update={
            "baseline": report.baseline.model_copy(update=unknown),
            "compressed": report.compressed.model_copy(update=unknown),
            "drop": None,
            "fidelity": None,
        }
    )
    result = document.result.model_copy(update={"report": blind, "constraints": (), "warnings": ()})
    spec = document.spec.model_copy(update={"steps": (), "constraints": ()})
    bare = document.model_copy(update={"result": result, "spec": spec, "steps": (), "files": document.files[1:]})
    # When its page is made
    html = page(bare)
    # Then the rest is there
    assert "accuracy" not in html.lower()
    assert "onnxruntime.InferenceSession" not in html
    assert "44.7 MB" in html


def test_what_a_client_has_named_cannot_become_markup(document: ReportDocument) -> None:
    # Given a detail and a warning that hold markup
    evil = "<script>alert(1)</script>"
    step = document.steps[0].model_copy(update={"details": {"note": evil}})
    result = document.result.model_copy(update={"warnings": (Notice(code="noisy_host", detail=evil),)})
    # When the page is made, then it is text
    html = page(document.model_copy(update={"steps": (step, *document.steps[1:]), "result": result}))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 2


def test_the_same_job_gives_the_same_page(document: ReportDocument) -> None:
    assert page(document) == page(document)


def test_report_json_can_be_read_back(document: ReportDocument, tmp_path: Path) -> None:
    # Given both reports on disk
    for_programs, for_people = write_reports(document, tmp_path)
    # Then the one is the document again, and the other the page
    assert ReportDocument.model_validate_json(for_programs.read_bytes()) == document
    assert for_people.read_text() == page(document)


def test_a_plot_takes_the_colours_of_the_page(document: ReportDocument) -> None:
    # Given the plot of accuracy against size
    methods = [step.method for step in document.spec.steps]
    element = svg(accuracy_against_size(points(document.result.report, methods, document.steps)))
    # Then its text is text, its colours are the page's, and it tells nothing of who drew it when
    assert ">original<" in element
    assert ">quantize_static<" in element
    assert "var(--accent)" in element
    assert "matplotlib" not in element.lower()
    assert not re.search(r"20\d\d-\d\d-\d\d", element)


def test_a_plot_can_be_a_picture(document: ReportDocument, tmp_path: Path) -> None:
    # Given the same plot as a file
    methods = [step.method for step in document.spec.steps]
    write_png(accuracy_against_size(points(document.result.report, methods, document.steps)), tmp_path / "plot.png")
    # Then it is a picture that a screen can show, with more in it than one colour
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 1000
        colours = picture.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    assert len(colours) > 10


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_the_title_is_the_models(document: ReportDocument, name: str) -> None:
    html = page(document.model_copy(update={"architecture": Architecture(name=name)}))
    assert f"<h1>{name}, compressed</h1>" in html
