import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from compressor.report.document import ReportDocument
from compressor.report.page import page, write_reports
from compressor.report.plots import accuracy_against_size, points
from compressor.report.style import svg, write_png
from compressor.sparsity.histogram import Tally, histogram
from contract.artifact import ArtifactFormat
from contract.model import Architecture
from contract.report import (
    FactorizedLayer,
    Flips,
    Histogram,
    LayerBefore,
    LayerNoise,
    LayerSensitivity,
    Notice,
    QuantizationFidelity,
    Sensitivity,
)
from contract.value import Json


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


def test_the_page_tells_how_to_load_openvino_files(document: ReportDocument) -> None:
    # Given a job that delivers a graph and its weights
    names = ("model.xml", "model.bin")
    files = [
        document.files[0].model_copy(update={"format": ArtifactFormat.OPENVINO, "filename": name}) for name in names
    ]
    # When its page is made, then it says how to load the graph
    html = page(document.model_copy(update={"files": files}))
    assert 'openvino.compile_model("model.xml"' in html
    assert "InferenceSession" not in html


def test_the_page_tells_how_to_load_a_program(document: ReportDocument) -> None:
    # Given a job that delivers a program of torch's / When its page is made, then it says how to load it
    told = {"format": ArtifactFormat.TORCH_EXPORT, "filename": "model.pt2"}
    html = page(document.model_copy(update={"files": [document.files[0].model_copy(update=told)]}))
    assert 'torch.export.load("model.pt2").module()' in html
    assert "InferenceSession" not in html


def test_the_page_tells_how_to_compile_a_program(document: ReportDocument) -> None:
    # Given a job that delivers a program for torch's compiler / When its page is made, then it says how to compile it
    told = {"format": ArtifactFormat.TORCH_INDUCTOR, "filename": "model.inductor.pt2"}
    html = page(document.model_copy(update={"files": [document.files[0].model_copy(update=told)]}))
    assert 'torch.compile(torch.export.load("model.inductor.pt2").module(), dynamic=False)' in html
    assert "config.freezing = True" in html
    assert "InferenceSession" not in html


def test_the_page_tells_who_else_has_chosen_the_integers(document: ReportDocument) -> None:
    # Given files whose integers are those of the job's steps / When the page is made, then it says nothing of others
    assert "integers chosen by" not in page(document)
    # And where there are others, whose they are
    proof = document.files[0].verified
    assert proof is not None
    other = document.files[0].model_copy(update={"verified": proof.model_copy(update={"realized_by": "nncf 3.4.0"})})
    assert "integers chosen by nncf 3.4.0" in page(document.model_copy(update={"files": [other]}))


def test_the_page_tells_how_to_load_an_executorch_program(document: ReportDocument) -> None:
    # Given a job that delivers a program for ExecuTorch / When its page is made, then it says how to load it
    told = {"format": ArtifactFormat.EXECUTORCH, "filename": "model.pte"}
    html = page(document.model_copy(update={"files": [document.files[0].model_copy(update=told)]}))
    assert 'load_program("model.pte").load_method("forward")' in html
    assert "InferenceSession" not in html


def test_without_data_the_page_claims_nothing_of_accuracy(document: ReportDocument) -> None:
    # Given a job without evaluation data and steps, that delivers safetensors alone
    report = document.result.report
    unknown = {"accuracy": None, "loss": None, "calibration_error": None}
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


def with_details(document: ReportDocument, **details: Json) -> ReportDocument:
    """The document, with what its first step has found out."""
    first, *rest = document.steps
    return document.model_copy(update={"steps": (first.model_copy(update={"details": details}), *rest)})


def test_what_a_step_has_found_out_is_drawn(document: ReportDocument) -> None:
    # Given a step with weights before and after a cut, and curves of many layers
    weights = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    cut = histogram(Tally.of({"w": weights}), {"w": weights.where(weights.abs() > 0.5, 0)}, threshold=0.5)
    layers = tuple(
        LayerSensitivity(name=f"layer{n}.conv", kl=(0.0, n / 10, n), agreement=(1.0, 0.9, 0.5)) for n in range(12)
    )
    curves = Sensitivity(amounts=(0.25, 0.5, 0.9), layers=layers).model_dump(mode="json")
    # When the page is made
    html = page(with_details(document, histogram=cut, sensitivity=curves, epochs=3))
    # Then both are pictures, with what a reader needs to read them, and their numbers are not told in words
    assert "Weights by magnitude, before and after prune_channels" in html
    assert "What each layer can lose" in html
    assert html.count("<svg") == 4
    assert "exactly zero: 0.0% before" in html
    assert "threshold" in html
    # And the layers that lose most bear their names, and no others
    assert [name for name in (f"layer{n}.conv" for n in range(12)) if f">{name}<" in html] == [
        f"layer{n}.conv" for n in range(6, 12)
    ]
    assert "zeros_before" not in html
    tags = read(html)
    assert (tags.wrong, tags.open) == ([], [])


def test_what_became_of_factorized_layers_is_drawn(document: ReportDocument) -> None:
    # Given a step that has put factors in the place of two layers
    layers = [
        FactorizedLayer(
            name=f"layer{n}.conv1", scheme="spatial", ranks=(8 * n,), full_ranks=(64,), kept=1 - n / 100,
            parameters=(9216, 3072 * n), macs=(9216 * 64, 3072 * 64 * n),
        ).model_dump(mode="json")
        for n in (1, 2)
    ]  # fmt: skip
    # When the page is made
    html = page(with_details(document, factorized=layers))
    # Then it has a picture of them, and tells the figures in no words
    assert "What prune_channels has made of layers" in html
    assert "layer2.conv1 (spatial)" in html
    assert "full_ranks" not in html


def test_the_noise_of_quantization_is_drawn(document: ReportDocument) -> None:
    # Given a step that has compared a quantized network with the float one
    found = QuantizationFidelity(
        images=128,
        top1_agreement=0.992,
        kl=0.00031,
        layers=(LayerNoise(name="stem.0", sqnr_db=31.2), LayerNoise(name="head", sqnr_db=24.9)),
        flips=(Flips(name="otter", images=12, flipped=1),),
    )
    # When the page is made
    html = page(with_details(document, quantization=found.model_dump(mode="json")))
    # Then layers and changed classes are in the picture, with the answers as a whole, and not told in words
    assert "How near prune_channels stays to the float network" in html
    assert all(f">{name}</text>" in html for name in ("stem.0", "head", "otter"))
    assert "same answer 99.2%, KL 0.00031 nats" in html
    assert "top1_agreement" not in html
    # And without a change there is no second picture beside it
    calm = found.model_copy(update={"flips": ()}).model_dump(mode="json")
    assert "answers changed" not in page(with_details(document, quantization=calm))


def test_layers_stand_beside_what_they_were(document: ReportDocument) -> None:
    # Given a step behind which one layer has half of its channels, one more zeros, and one is as it was
    first, *rest = document.steps
    was = {layer.name: LayerBefore(**layer.model_dump(include=set(LayerBefore.model_fields))) for layer in first.layers}
    narrower = was["layer1.0.conv1"].model_copy(update={"shape": (64, 64, 3, 3), "parameters": 36_864, "macs": 147_456})
    denser = was["layer2.0.conv1"].model_copy(update={"zeros": 0.0})
    was |= {"layer1.0.conv1": narrower, "layer2.0.conv1": denser}
    beside = tuple(layer.model_copy(update={"before": was[layer.name]}) for layer in first.layers)
    worth = {"layer1.0.conv1": [0.01, 0.2, 0.35, 0.6, 1.5]}
    errors: dict[str, Json] = {"layer2.0.conv1": [0.31, 0.042], "layer1.0.conv1": 0.123}
    details: dict[str, Json] = {"importance": dict(worth), "output_error": errors}
    told = first.model_copy(update={"layers": beside, "details": details})
    # When the page is made
    html = page(document.model_copy(update={"steps": (told, *rest)}))
    # Then both shapes, counts and fractions are told, what there was to choose from, and what fitting and surgery did
    assert '<code class="was">64×64×3×3</code> → <code>32×32×3×3</code>' in html
    assert '<span class="was">36.9 k →</span> 9.22 k' in html
    assert '<span class="was">0.0 % →</span> 22.0 %' in html
    assert "0.01, 0.35, 1.5" in html
    assert '<span class="was">31.0 % →</span> 4.2 %' in html
    assert '<td class="number">12.3 %</td>' in html
    assert html.count('class="was"') == 5
    # And a picture has a bar for every layer, under its name
    assert "Layer by layer, before and after prune_channels" in html
    assert all(f">{layer.name}</text>" in html for layer in first.layers)


def test_a_histogram_counts_every_weight_once() -> None:
    # Given weights of very unlike magnitudes, zeros among them
    before = torch.tensor([0.0, 1e-12, 1e-6, -0.5, 2.0, 2.0])
    after = torch.tensor([0.0, 0.0, 0.0, -0.5, 2.0, 2.0])
    # When they are counted
    found = Histogram.model_validate(histogram(Tally.of({"w": before}), {"w": after}))
    # Then each is in one bin or among the zeros
    assert (sum(found.before), found.zeros_before) == (5, 1)
    assert (sum(found.after), found.zeros_after) == (3, 3)
    assert found.after[-1] == 2
    assert list(found.edges) == sorted(found.edges)
