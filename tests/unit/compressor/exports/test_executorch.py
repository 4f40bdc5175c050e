"""A candidate as an ExecuTorch program."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.executorch import write
from compressor.exports.executorch_runtime import executorch, int8_macs_fraction, open_file, products
from compressor.methods.cast import apply as cast
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply as quantize_static
from compressor.methods.quantize_weights import apply as quantize_weights
from compressor.quantization.simulate import simulated
from contract.artifact import OutputPrecision
from contract.failures import ExportFailed
from contract.methods.cast import Cast
from contract.methods.low_bit import QuantizeWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from tests.unit.compressor.executorch import needs_executorch
from tests.unit.compressor.networks import ByContent, Recurrent, answers, candidate_of, gated, inputs_for, residual
from tests.unit.compressor.quantization.steps import with_images
from tests.unit.compressor.small_jobs import trained_candidate

pytestmark = needs_executorch


def integers(candidate: Candidate) -> Candidate:
    return quantize_static(candidate, QuantizeStatic(), with_images(candidate))


def written(candidate: Candidate, folder: Path, **how: OutputPrecision) -> Path:
    return next(iter(write(candidate, folder, "model", **how).values()))


def executorch_answers(path: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(open_file(path, 1)(x.numpy()))


@pytest.mark.parametrize("network", [residual, gated])
def test_a_float_program_answers_as_the_network(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given a network, in training mode as a training step may leave it
    candidate = network()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    candidate.module.train()
    # When it is written
    path = written(candidate, tmp_path)
    # Then there is one file, and it gives the network's answers, image by image, to batches of five and of one
    assert list(tmp_path.iterdir()) == [path]
    assert torch.allclose(executorch_answers(path, x), wanted, atol=1e-5)
    assert torch.allclose(executorch_answers(path, x[:1]), wanted[:1], atol=1e-5)
    # And nothing of it is computed in integers
    assert int8_macs_fraction(path) == 0


class _Linear(nn.Module):
    """Linear layers of which one gives codes and the other floats."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.hidden = nn.Linear(128, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(self.stem(x), 1)
        return self.head(nn.functional.relu(self.hidden(x.flatten(1))))


def recurrent() -> Candidate:
    return candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))


def linear() -> Candidate:
    torch.manual_seed(0)
    return candidate_of(_Linear())


@pytest.mark.parametrize("network", [residual, gated, linear])
def test_an_int8_program_computes_the_numbers_of_the_plan(tmp_path: Path, network: Callable[[], Candidate]) -> None:
    # Given a quantized network
    candidate = integers(network())
    x = inputs_for(candidate, 50, seed=7)
    wanted = answers(simulated(candidate), x)
    # When it is written
    path = written(candidate, tmp_path)
    # Then its answers are far nearer to those of the simulation than these are to the float network's
    error = answers(candidate.module, x) - wanted
    found = executorch_answers(path, x)
    assert (found - wanted).square().mean() < 0.3 * error.square().mean()
    # And all is multiplied in integers
    assert int8_macs_fraction(path) == 1


def test_a_layer_that_quantizes_its_input_as_it_comes_is_multiplied_in_integers(tmp_path: Path) -> None:
    # Given a network whose linear layers are quantized so
    candidate = quantize_dynamic(linear(), QuantizeDynamic(), Context())
    x = inputs_for(candidate, 50, seed=7)
    wanted = torch.cat([answers(simulated(candidate), image) for image in x.split(1)])
    # When it is written, then it answers as the simulation does, and multiplies in integers what it should
    path = written(candidate, tmp_path)
    error = answers(candidate.module, x) - wanted
    assert (executorch_answers(path, x) - wanted).square().mean() < 0.3 * error.square().mean()
    assert {p.kind for p in products(path) if p.datatype == "xnn_datatype_qdint8"} == {"XNNFullyConnected"}
    assert {p.kind for p in products(path) if p.datatype == "xnn_datatype_fp32"} == {"XNNConv2d"}


def test_float16_computes_in_float16(tmp_path: Path) -> None:
    # Given a network / When it is written in float16
    candidate = residual()
    x = inputs_for(candidate, 5)
    wanted = answers(candidate.module, x)
    path = written(candidate, tmp_path, precision=OutputPrecision.FLOAT16)
    # Then all is multiplied in float16, and it answers within what that allows
    assert {product.datatype for product in products(path)} == {"xnn_datatype_fp16"}
    assert torch.allclose(executorch_answers(path, x), wanted, atol=1e-2 * float(wanted.abs().max()))


def test_codes_are_all_that_is_stored_of_a_weight(tmp_path: Path) -> None:
    # Given a network of 0.4 million parameters / When it is written as floats and as integers
    candidate = trained_candidate()
    count = sum(parameter.numel() for parameter in candidate.module.parameters())
    floats = written(candidate, tmp_path).stat().st_size
    coded = written(integers(candidate), tmp_path).stat().st_size
    # Then a parameter takes four bytes, and one
    assert (floats / count, coded / count) == pytest.approx((4, 1), rel=0.2)


@pytest.mark.parametrize("form", [residual, lambda: integers(gated())], ids=["float32", "integers"])
def test_the_same_candidate_gives_the_same_bytes_without_a_trace_of_the_machine(
    tmp_path: Path, form: Callable[[], Candidate]
) -> None:
    # Given a network
    candidate = form()
    # When it is written twice, under two names
    first, second = (next(iter(write(candidate, tmp_path, name).values())).read_bytes() for name in ("a", "b"))
    # Then the bytes are equal
    assert first == second
    # And no readable run of them is a path, a source file, a module or a stack
    texts = [text.decode() for text in re.findall(rb"[\x20-\x7e]{6,}", first)]
    assert any("XnnpackBackend" in text for text in texts)
    traces = r"\w/\w|\.py\b|site-packages|File \\?\"|torch\.nn|stack_trace|modelpress::|networks|Residual"
    assert [text[:200] for text in texts if re.search(traces, text)] == []


def test_the_program_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    # Given a written network
    candidate = residual()
    program = executorch("runtime").Runtime.get().load_program(written(candidate, tmp_path))
    # Then it takes one image, and preprocessing and class names are methods beside the network
    forward = program.load_method("forward").metadata
    assert forward.input_tensor_meta(0).sizes() == (1, 3, 8, 8)
    assert forward.output_tensor_meta(0).sizes() == (1, 4)
    said = {name: program.load_method(name).execute([])[0] for name in program.method_names - {"forward"}}
    assert json.loads(said["modelpress.preprocessing"]) == json.loads(candidate.preprocessing.model_dump_json())
    assert tuple(json.loads(said["modelpress.classes"])) == candidate.classes
    assert said["modelpress.format_version"] == "1"


@pytest.mark.parametrize(
    ("stored", "layers"),
    [
        (lambda: quantize_weights(residual(), QuantizeWeights(include=("head",)), Context()), "head"),
        (lambda: cast(residual(), Cast(include=("head",)), Context()), "head"),
        (lambda: quantize_dynamic(recurrent(), QuantizeDynamic(), Context()), "rnn"),
    ],
    ids=["codes", "halves", "recurrent"],
)
def test_weights_that_would_be_floats_again_are_refused_by_name(
    tmp_path: Path, stored: Callable[[], Candidate], layers: str
) -> None:
    # Given a network some of whose weights are stored in fewer bits beside floats / When it is written
    with pytest.raises(ExportFailed, match=f"beside inputs of floats: {layers}") as caught:
        write(stored(), tmp_path, "model")
    # Then the failure names the layers, and no file is left
    assert "\n" not in caught.value.detail
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_captured_is_refused_without_a_trace_of_the_machine(tmp_path: Path) -> None:
    # Given a network whose way depends on what it sees / When it is written, then the failure says so in one line
    with pytest.raises(ExportFailed, match="GuardOnDataDependentSymNode") as caught:
        write(candidate_of(ByContent()), tmp_path, "model")
    assert not re.search(r"\w/\w|\.py|\n", caught.value.detail)
