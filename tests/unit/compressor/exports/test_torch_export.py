"""A candidate as a program of torch's own operators."""

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.torch_export import write
from compressor.exports.torch_export_runtime import int8_macs_fraction, open_file
from compressor.methods.cast import apply as cast
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.methods.quantize_weights import apply as quantize_weights
from compressor.models.architectures import build
from compressor.quantization.simulate import simulated
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed
from contract.methods.cast import Cast
from contract.methods.low_bit import QuantizeWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.networks import (
    TINY_TRANSFORMER,
    ByContent,
    Recurrent,
    answers,
    candidate_of,
    gated,
    inputs_for,
    residual,
    unusual,
)
from tests.unit.compressor.quantization.steps import with_images
from tests.unit.compressor.small_jobs import NETWORK


def coded(candidate: Candidate, **how: object) -> Candidate:
    return quantize_weights(candidate, QuantizeWeights.model_validate({"all_layers": True} | how), Context())


def small() -> Candidate:
    return candidate_of(build(NETWORK, seed=0), size=32, architecture=NETWORK)


def recurrent() -> Candidate:
    return candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))


def both() -> Candidate:
    return cast(coded(residual(), include=("project",)), Cast(to="bfloat16"), Context())


def transformer() -> Candidate:
    return candidate_of(build(TINY_TRANSFORMER, seed=0), size=32)


def dynamic(candidate: Candidate) -> Candidate:
    return quantize_dynamic(candidate, QuantizeDynamic(), Context())


FORMS: dict[str, Callable[[], Candidate]] = {
    "float32": residual,
    "gates": gated,
    "unusual": unusual,
    "recurrent": recurrent,
    "groups": lambda: coded(residual(), bits=4, group_size=16),
    "codebook": lambda: coded(gated(), bits=3, scheme="codebook"),
    "recurrent codes": lambda: coded(recurrent(), bits=4),
    "codes and halves": both,
    "dynamic": lambda: dynamic(residual()),
    "dynamic and recurrent": lambda: dynamic(recurrent()),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def written(candidate: Candidate, folder: Path, **how: OutputPrecision) -> Path:
    return next(iter(write(candidate, folder, "model", **how).values()))


@each_form
def test_a_program_answers_as_the_network(tmp_path: Path, form: Callable[[], Candidate]) -> None:
    # Given a network, in training mode as a training step may leave it
    candidate = form()
    x = inputs_for(candidate, 5)
    wanted = [answers(simulated(candidate).eval(), batch) for batch in (x, x[:1])]
    candidate.module.train()
    # When it is written
    path = written(candidate, tmp_path)
    # Then there is one file, and it gives the network's answers, for batches of five and of one
    assert list(tmp_path.iterdir()) == [path]
    run = open_file(path, 1)
    for batch, expected in zip((x, x[:1]), wanted, strict=True):
        assert torch.allclose(torch.from_numpy(run(batch.numpy())), expected, atol=1e-5)
    # And what quantizes its input as it comes is multiplied in integers, and nothing else
    assert (int8_macs_fraction(path) > 0) == bool(candidate.plan.dynamic)


def test_nearly_all_of_a_transformer_is_multiplied_in_integers(tmp_path: Path) -> None:
    # Given a vision transformer whose layers quantize their input as it comes
    candidate = dynamic(transformer())
    # When it is written
    path = written(candidate, tmp_path)
    # Then all but the products of attention itself and the first layer are in integers, and answers are as planned
    assert 0.7 < int8_macs_fraction(path) < 0.8
    x = inputs_for(candidate, 3)
    found = torch.from_numpy(open_file(path, 1)(x.numpy()))
    assert torch.allclose(found, answers(simulated(candidate), x), atol=1e-4)


@pytest.mark.parametrize("form", [both, lambda: dynamic(residual())], ids=["codes and halves", "dynamic"])
def test_a_process_that_has_torch_alone_runs_it(tmp_path: Path, form: Callable[[], Candidate]) -> None:
    # Given a network with codes / When a process that finds none of our code loads it
    path = written(form(), tmp_path)
    code = "import sys, torch; print(torch.export.load(sys.argv[1]).module()(torch.ones(3, 3, 8, 8)).shape)"
    done = subprocess.run([sys.executable, "-I", "-c", code, path], check=True, capture_output=True, text=True)
    # Then it answers
    assert done.stdout.strip() == "torch.Size([3, 4])"


@each_form
def test_the_same_candidate_gives_the_same_bytes_without_a_trace_of_the_machine(
    tmp_path: Path, form: Callable[[], Candidate]
) -> None:
    # Given a network
    candidate = form()
    # When it is written twice, under two names
    first, second = (next(iter(write(candidate, tmp_path, name).values())).read_bytes() for name in ("a", "b"))
    # Then the bytes are equal
    assert first == second
    # And in no file of the archive but bare weights a readable run is a path, a source file, a module or a stack
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        content = b"\n".join(archive.read(name) for name in archive.namelist() if "/weight_" not in name)
    texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{6,}", content)]
    assert any("conv2d" in text or "lstm" in text for text in texts)
    traces = r"\w/\w|\.py\b|site-packages|File \\?\"|torch\.nn|stack_trace|modelpress::|networks|Residual"
    assert [text[:200] for text in texts if re.search(traces, text)] == []


def test_codes_and_halves_are_all_that_is_stored_of_a_weight(tmp_path: Path) -> None:
    # Given a network of 0.4 million parameters / When it is written with its weights as they are, as codes, as halves
    count = sum(parameter.numel() for parameter in small().module.parameters())
    sizes = []
    for candidate in (small(), coded(small(), bits=4), cast(small(), Cast(), Context())):
        with zipfile.ZipFile(written(candidate, tmp_path)) as archive:
            weights = [entry.file_size for entry in archive.infolist() if "/weight_" in entry.filename]
        sizes.append(sum(weights) / count)
    # Then a parameter takes four bytes, one, and two, and little beside
    assert sizes == pytest.approx([4, 1, 2], rel=0.1)


def test_float16_computes_in_float16(tmp_path: Path) -> None:
    # Given a network / When it is written in float16
    candidate = residual()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    path = written(candidate, tmp_path, precision=OutputPrecision.FLOAT16)
    # Then all that it holds is float16, and it answers within what that allows
    program = torch.export.load(path)
    assert {t.dtype for t in program.state_dict.values() if t.is_floating_point()} == {torch.float16}
    found = torch.from_numpy(open_file(path, 1)(x.numpy()))
    assert found.dtype is torch.float32
    assert torch.allclose(found, wanted, atol=1e-2 * float(wanted.abs().max()))


def test_the_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    # Given a written network
    candidate = residual()
    said = dict.fromkeys(("modelpress.preprocessing", "modelpress.classes", "modelpress.format_version"), "")
    torch.export.load(written(candidate, tmp_path), extra_files=said)
    # Then preprocessing and class names are beside the program
    assert json.loads(said["modelpress.preprocessing"]) == json.loads(candidate.preprocessing.model_dump_json())
    assert tuple(json.loads(said["modelpress.classes"])) == candidate.classes
    assert said["modelpress.format_version"] == "1"


def test_activations_of_a_fixed_range_are_refused_by_name(tmp_path: Path) -> None:
    # Given a network whose activations have codes
    quantized = quantize_static(residual(), QuantizeStatic(), with_images(residual()))
    # When it is written, then the failure names the layers
    with pytest.raises(ExportFailed, match=r"fixed range, as at depthwise\.0, head"):
        write(quantized, tmp_path, "model")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_captured_is_refused_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    # Given a network whose way depends on what it sees / When it is written, then the failure says so in one line
    with pytest.raises(ExportFailed, match="GuardOnDataDependentSymNode") as caught:
        write(candidate_of(ByContent()), tmp_path, "model")
    assert not re.search(r"\w/\w|\.py|\n", caught.value.detail)
