"""A candidate as a program for torch's compiler."""

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
from compressor.exports.torch_inductor import write
from compressor.exports.torch_inductor_runtime import int8_macs_fraction, open_file
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.methods.quantize_weights import apply as quantize_weights
from compressor.models.architectures import build
from compressor.quantization.simulate import simulated
from contract.methods.low_bit import QuantizeWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.compiler import needs_compiler
from tests.unit.compressor.networks import (
    TINY_TRANSFORMER,
    Recurrent,
    answers,
    candidate_of,
    gated,
    inputs_for,
    residual,
)
from tests.unit.compressor.quantization.steps import with_images
from tests.unit.compressor.small_jobs import trained_candidate


def integers(candidate: Candidate) -> Candidate:
    return quantize_static(candidate, QuantizeStatic(), with_images(candidate))


def dynamic() -> Candidate:
    network = candidate_of(build(TINY_TRANSFORMER, seed=0), size=32)
    return quantize_dynamic(network, QuantizeDynamic(), Context())


def codes_of_a_recurrence() -> Candidate:
    network = candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))
    return quantize_weights(network, QuantizeWeights(bits=4, all_layers=True), Context())


def written(candidate: Candidate, folder: Path) -> Path:
    return next(iter(write(candidate, folder, "model").values()))


@needs_compiler
@pytest.mark.parametrize("network", [residual, codes_of_a_recurrence])
def test_what_computes_in_floats_answers_as_the_network(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given a network, in training mode as a training step may leave it
    candidate = network()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    candidate.module.train()
    # When it is written
    path = written(candidate, tmp_path)
    # Then there is one file, and compiled it gives the network's answers, for batches of five, of one and of three
    assert [file.name for file in tmp_path.iterdir()] == ["model.inductor.pt2"]
    run = open_file(path, 1)
    for part in (slice(5), slice(1), slice(3)):
        assert torch.allclose(torch.from_numpy(run(x[part].numpy())), wanted[part], atol=1e-5)
    # And nothing of it is computed in integers
    assert int8_macs_fraction(path) == 0


@needs_compiler
@pytest.mark.parametrize("network", [residual, gated])
def test_an_int8_program_computes_the_numbers_of_the_plan(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given a quantized network
    candidate = integers(network())
    x = inputs_for(candidate, 50, seed=7)
    wanted = answers(simulated(candidate), x)
    # When it is written and compiled
    path = written(candidate, tmp_path)
    run = open_file(path, 1)
    found = torch.cat([torch.from_numpy(run(image.numpy())) for image in x.split(1)])
    # Then its answers are far nearer to those of the simulation than these are to the float network's
    error = answers(candidate.module, x) - wanted
    assert (found - wanted).square().mean() < 0.3 * error.square().mean()
    # And all is multiplied in integers
    assert int8_macs_fraction(path) == 1


@needs_compiler
def test_layers_that_quantize_their_input_as_it_comes_are_multiplied_in_integers(tmp_path: Path) -> None:
    # Given a vision transformer whose linear layers are quantized so / When it is written and compiled
    candidate = dynamic()
    path = written(candidate, tmp_path)
    x = inputs_for(candidate, 3)
    run = open_file(path, 1)
    found = torch.cat([torch.from_numpy(run(image.numpy())) for image in x.split(1)])
    # Then it answers as the simulation does, and all but the products of attention itself and the first layer are so
    wanted = torch.cat([answers(simulated(candidate), image) for image in x.split(1)])
    error = answers(candidate.module, x) - wanted
    assert (found - wanted).square().mean() < 0.3 * error.square().mean()
    assert int8_macs_fraction(path) > 0.8


def test_a_process_that_has_torch_alone_runs_it(tmp_path: Path) -> None:
    # Given an INT8 program / When a process that finds none of our code loads it, and does not compile it
    candidate = integers(residual())
    path = written(candidate, tmp_path)
    code = (
        "import sys, torch, torch.ao.quantization.fx._decomposed\n"
        "print(torch.export.load(sys.argv[1]).module()(torch.ones(3, 3, 8, 8))[0].tolist())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code, path], check=True, capture_output=True, text=True)
    # Then it answers with the plan's numbers
    wanted = answers(simulated(candidate), torch.ones(3, 3, 8, 8))[0]
    assert torch.allclose(torch.tensor([float(n) for n in re.findall(r"-?\d[\d.e-]*", done.stdout)]), wanted, atol=0.05)


def test_codes_are_all_that_is_stored_of_a_weight(tmp_path: Path) -> None:
    # Given a network of 0.4 million parameters / When it is written as floats and as integers
    candidate = trained_candidate()
    count = sum(parameter.numel() for parameter in candidate.module.parameters())
    sizes = []
    for form in (candidate, integers(candidate)):
        with zipfile.ZipFile(written(form, tmp_path)) as archive:
            sizes.append(sum(entry.file_size for entry in archive.infolist() if "/weight_" in entry.filename) / count)
    # Then a parameter takes four bytes, and one, and little beside
    assert sizes == pytest.approx([4, 1], rel=0.1)


@pytest.mark.parametrize("form", [residual, lambda: integers(gated()), dynamic], ids=["float32", "integers", "dynamic"])
def test_the_same_candidate_gives_the_same_bytes_without_a_trace_of_the_machine(
    tmp_path: Path, form: Callable[[], Candidate]
) -> None:
    # Given a network
    candidate = form()
    # When it is written twice, under two names
    first, second = (next(iter(write(candidate, tmp_path, name).values())) for name in ("a", "b"))
    # Then the bytes are equal
    assert first.read_bytes() == second.read_bytes()
    # And in no file of the archive but bare weights a readable run is a path, a source file, a module or a stack
    with zipfile.ZipFile(first) as archive:
        content = b"\n".join(archive.read(name) for name in archive.namelist() if "/weight_" not in name)
    texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{6,}", content)]
    assert any("conv2d" in text for text in texts)
    traces = r"\w/\w|\.py\b|site-packages|File \\?\"|torch\.nn|stack_trace|modelpress::|networks|Residual"
    assert [text[:200] for text in texts if re.search(traces, text)] == []
