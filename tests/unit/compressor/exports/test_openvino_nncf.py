"""A network as OpenVINO IR whose integers NNCF has chosen."""

import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.exports.openvino_nncf import Unquantized, nncf, version, write
from compressor.exports.openvino_runtime import Layer, int8_macs_fraction, layers, open_file, openvino
from compressor.models.architectures import build
from contract.failures import ExportFailed
from contract.methods.quantize import Processor
from contract.model import Preprocessing
from tests.unit.compressor.networks import (
    TINY_TRANSFORMER,
    answers,
    candidate_of,
    images_for,
    inputs_for,
    residual,
    unusual,
)


def transformer() -> Candidate:
    return candidate_of(build(TINY_TRANSFORMER), size=32, architecture=TINY_TRANSFORMER)


def unquantized(candidate: Candidate, target: Processor = "x86-vnni") -> Unquantized:
    return Unquantized(candidate, images_for(candidate, 32), target)


def weights_of(candidate: Candidate) -> frozenset[str]:
    return frozenset(name for name, _ in candidate.module.named_parameters())


def written(candidate: Candidate, folder: Path, *, left: frozenset[str] = frozenset()) -> Path:
    files = write(unquantized(candidate), folder, "model.nncf", integers=weights_of(candidate) - left)
    assert list(files) == ["model.nncf.xml", "model.nncf.bin"]
    assert set(files.values()) == set(folder.iterdir())
    return files["model.nncf.xml"]


def products(graph: Path) -> list[Layer]:
    return [layer for layer in layers(graph) if layer.macs]


def openvino_answers(path: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(open_file(path, 1)(x.numpy()))


@pytest.mark.parametrize("network", [residual, unusual, transformer])
def test_the_file_computes_in_integers_what_the_float_network_does(
    tmp_path: Path, network: Callable[[], Candidate]
) -> None:
    # Given a network
    candidate = network()
    x = inputs_for(candidate, 50, seed=7)
    # When NNCF quantizes it
    graph = written(candidate, tmp_path)
    # Then it answers nearly as before, batches of fifty and of one
    for batch in (x, x[:1]):
        wanted = answers(candidate.module, batch)
        assert (openvino_answers(graph, batch) - wanted).square().mean() < 0.02 * wanted.square().mean()
    # And nearly all of its products are those of integers
    assert int8_macs_fraction(graph) > 0.95


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (residual, "stem.0"),
        (residual, "depthwise.0"),
        (residual, "head"),
        (transformer, "patch_embed.proj"),
        (transformer, "blocks.0.attn.qkv"),
    ],
)
def test_a_layer_that_the_plan_leaves_stays_float(tmp_path: Path, network: Callable[[], Candidate], left: str) -> None:
    # Given a network, and what NNCF makes of all of it
    candidate = network()
    (tmp_path / "all").mkdir()
    (tmp_path / "left").mkdir()
    every = products(written(candidate, tmp_path / "all"))
    # When one of its layers is left
    some = products(written(candidate, tmp_path / "left", left=frozenset({f"{left}.weight"})))
    # Then exactly as many products of that layer's shape are floats that were none
    weight = candidate.module.get_parameter(f"{left}.weight")
    changed = [now for was, now in zip(every, some, strict=True) if was.precision != now.precision]
    assert [layer.precision for layer in changed] == ["f32"]
    assert weight.numel() in [int(np.prod(shape)) for shape in changed[0].inputs]


def test_weights_for_processors_without_vnni_have_seven_bits(tmp_path: Path) -> None:
    # Given a network of matrix products, and two kinds of processors / When NNCF quantizes it for each
    candidate, ends = transformer(), {}
    for target in ("x86-avx2", "x86-vnni"):
        (tmp_path / target).mkdir()
        meant = replace(unquantized(candidate), target=target)
        graph, _ = write(meant, tmp_path / target, "model", integers=weights_of(candidate)).values()
        model = openvino().Core().read_model(graph)
        codes = [
            node.data
            for node in model.get_ordered_ops()
            if node.get_type_name() == "Constant" and node.get_element_type() == openvino().Type.i8
        ]
        ends[target] = max(int(np.abs(array.astype(int)).max()) for array in codes)
    # Then sums of two products fit 16 bits where they must
    assert ends["x86-vnni"] > 120
    assert ends["x86-avx2"] <= 64


@pytest.mark.parametrize(("network", "kind"), [(residual, "None"), (transformer, "transformer")])
def test_networks_with_attention_are_quantized_as_transformers(
    tmp_path: Path, network: Callable[[], Candidate], kind: str
) -> None:
    # Given / When / Then NNCF writes into the file how it went about it
    assert f'<model_type value="{kind}" />' in written(network(), tmp_path).read_text()


def test_the_same_network_gives_the_same_bytes_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    # Given a network, and images / When it is quantized twice
    candidate = residual()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (written(candidate, tmp_path / name) for name in ("a", "b"))
    # Then the bytes are equal
    for end in (".xml", ".bin"):
        assert first.with_suffix(end).read_bytes() == second.with_suffix(end).read_bytes()
    # And the graph names no path, source file, module or build
    text = first.read_text()
    assert not re.search(r"[\s\"]/\w|\.py\b|\.cpp\b|site-packages|torch\.nn|\.onnx", text)
    # And says what it takes and gives, and who has quantized it
    model = openvino().Core().read_model(first)
    assert [port.any_name for port in (*model.inputs, *model.outputs)] == ["image", "logits"]
    told = model.get_rt_info(["framework", "modelpress.classes"]).astype(str)
    assert json.loads(told) == [f"class {i}" for i in range(4)]
    assert f'<version value="{version().removeprefix("nncf ")}" />' in text


def test_what_nncf_cannot_quantize_fails_by_name(tmp_path: Path) -> None:
    # Given images of a size that the network does not take
    candidate = residual()
    other = replace(candidate, preprocessing=Preprocessing(size=(6, 6), mean=(0.5,) * 3, std=(0.25,) * 3))
    wrong = replace(unquantized(candidate), images=images_for(other, 4))
    # When NNCF would measure ranges on them, then that is said without a trace of the machine, and nothing is left
    with pytest.raises(ExportFailed, match=r"NNCF cannot quantize the network.*are incompatible") as caught:
        write(wrong, tmp_path, "model", integers=weights_of(candidate))
    assert not re.search(r"\w/\w|[ch]pp", caught.value.detail)
    assert list(tmp_path.iterdir()) == []


def test_nncf_reports_to_nobody_and_leaves_loggers_alone(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # Given / When it has been loaded and has worked
    written(residual(), tmp_path)
    # Then nothing is there that could report, later loggers are plain, and nothing was printed
    assert sys.modules["openvino_telemetry"] is None
    assert type(nncf().telemetry.telemetry).__name__ == "MagicMock"
    assert logging.getLoggerClass().__module__ == "logging"
    assert "".join(capfd.readouterr()) == ""
