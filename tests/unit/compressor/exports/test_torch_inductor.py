"""A candidate as a program for torch's compiler."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.torch_inductor import write
from compressor.exports.torch_inductor_runtime import int8_macs_fraction, open_file
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.methods.quantize_weights import apply as quantize_weights
from compressor.models.architectures import build
from compressor.quantization.simulate import simulated
from contract.artifact import OutputPrecision
from contract.methods.low_bit import QuantizeWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.inductor import needs_inductor
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


def integers(candidate: Candidate, **how: object) -> Candidate:
    return quantize_static(candidate, QuantizeStatic.model_validate(how), with_images(candidate))


def transformer() -> Candidate:
    return candidate_of(build(TINY_TRANSFORMER, seed=0), size=32)


def dynamic() -> Candidate:
    return quantize_dynamic(transformer(), QuantizeDynamic(), Context())


class _Linear(nn.Module):
    """Nothing but linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(192, 128)
        self.head = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.flatten(1)).relu())


def linear() -> Candidate:
    torch.manual_seed(0)
    return candidate_of(_Linear())


def coded_weights() -> Candidate:
    return quantize_weights(linear(), QuantizeWeights(bits=4, all_layers=True), Context())


def few_bits() -> Candidate:
    return integers(gated(), bits=4)


def integers_but_for_one() -> Candidate:
    return integers(linear(), exclude=("hidden",))


def codes_of_a_recurrence() -> Candidate:
    network = candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))
    return quantize_weights(network, QuantizeWeights(bits=4, all_layers=True), Context())


def written(candidate: Candidate, folder: Path) -> Path:
    return next(iter(write(candidate, folder, "model").values()))


@needs_inductor
@pytest.mark.parametrize("network", [residual, codes_of_a_recurrence, coded_weights])
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
    counters["stats"].clear()
    run = open_file(path, 1)
    for part in (slice(5), slice(1), slice(3)):
        assert torch.allclose(torch.from_numpy(run(x[part].numpy())), wanted[part], atol=1e-5)
    # And no more is compiled than what takes single images, and what takes batches of the size that came first
    assert counters["stats"]["unique_graphs"] == 2
    # And nothing of it is computed in integers
    assert int8_macs_fraction(path) == 0


@needs_inductor
@pytest.mark.parametrize("form", [lambda: integers(gated()), few_bits], ids=["8 bits", "4 bits"])
def test_an_int8_program_computes_the_numbers_of_the_plan(tmp_path: Path, form: Callable[[], Candidate]) -> None:
    # Given a quantized network
    candidate = form()
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


@needs_inductor
def test_a_transformer_in_integers_is_as_near_to_its_floats_as_planned(tmp_path: Path) -> None:
    # Given a quantized vision transformer / When it is written and compiled
    candidate = integers(transformer())
    x = inputs_for(candidate, 50, seed=7)
    path = written(candidate, tmp_path)
    run = open_file(path, 1)
    found = torch.cat([torch.from_numpy(run(image.numpy())) for image in x.split(1)])
    # Then it is no further from the float network than the simulation is, and all but attention itself is in integers
    planned, error = (answers(candidate.module, x) - a for a in (answers(simulated(candidate), x), found))
    assert error.square().mean() < 1.5 * planned.square().mean()
    assert int8_macs_fraction(path) > 0.8


@needs_inductor
def test_a_layer_that_stays_in_floats_is_not_counted_as_integers(tmp_path: Path) -> None:
    # Given a network of two linear layers, of which the larger stays as it is / When it is written
    path = written(integers_but_for_one(), tmp_path)
    # Then the smaller one's part is in integers, so far as it is not a product too small for any kernel
    assert int8_macs_fraction(path) < 0.1


@needs_inductor
def test_float16_computes_in_float16(tmp_path: Path) -> None:
    # Given a network / When it is written in float16 and compiled
    candidate = residual()
    x = inputs_for(candidate, 1)
    path = next(iter(write(candidate, tmp_path, "model", precision=OutputPrecision.FLOAT16).values()))
    # Then all that it holds is float16, and it answers within what that allows
    assert {t.dtype for t in torch.export.load(path).state_dict.values() if t.is_floating_point()} == {torch.float16}
    wanted = answers(candidate.module, x)
    found = torch.from_numpy(open_file(path, 1)(x.numpy()))
    assert torch.allclose(found, wanted, atol=1e-2 * float(wanted.abs().max()))


@needs_inductor
def test_layers_that_quantize_their_input_as_it_comes_are_multiplied_in_integers(tmp_path: Path) -> None:
    # Given a vision transformer whose linear layers are quantized so / When it is written and compiled
    candidate = dynamic()
    path = written(candidate, tmp_path)
    x = inputs_for(candidate, 3)
    run = open_file(path, 1)
    found = torch.cat([torch.from_numpy(run(image.numpy())) for image in x.split(1)])
    # Then it answers as the simulation does, and all but attention itself and the first layer is multiplied so
    wanted = torch.cat([answers(simulated(candidate), image) for image in x.split(1)])
    error = answers(candidate.module, x) - wanted
    assert (found - wanted).square().mean() < 0.3 * error.square().mean()
    assert 0.7 < int8_macs_fraction(path) < 0.8


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
