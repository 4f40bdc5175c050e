"""Parameters in 16 bits: files of half the size that answer as measured."""

import math
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports import openvino
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import runs
from compressor.exports.openvino_runtime import open_file
from compressor.methods import cast, prune_weights, quantize_static, quantize_weights
from compressor.models import files
from compressor.quantization.halves import Halves
from compressor.quantization.simulate import simulated
from contract.failures import AlreadyQuantized, InvalidModel, NothingToQuantize, UnfitModel
from contract.methods.cast import Cast, HalfType
from contract.methods.low_bit import QuantizeWeights
from contract.methods.prune import PruneWeights
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import (
    Recurrent,
    answers,
    candidate_of,
    inputs_for,
    named,
    onnx_answers,
    residual,
)
from tests.unit.compressor.quantization.steps import Told, with_images
from tests.unit.compressor.small_jobs import trained_candidate

TYPES = {HalfType.FLOAT16: torch.float16, HalfType.BFLOAT16: torch.bfloat16}
IN_ONNX = {HalfType.FLOAT16: onnx.TensorProto.FLOAT16, HalfType.BFLOAT16: onnx.TensorProto.BFLOAT16}


def halved(candidate: Candidate, context: Context | None = None, **params: object) -> Candidate:
    return cast.apply(candidate, Cast.model_validate(params), context or Context())


def openvino_answers(path: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(open_file(path, 1)(x.numpy()))


@pytest.mark.parametrize("kind", HalfType)
def test_every_file_is_half_as_large_and_answers_as_the_network(kind: HalfType, tmp_path: Path) -> None:
    # Given a trained network / When it is cast, and written in every format
    before = trained_candidate()
    parameters = {name: parameter.detach().clone() for name, parameter in before.module.named_parameters()}
    made = halved(before, to=kind)
    files.write(made, tmp_path)
    path = export(made, tmp_path / "model.onnx")
    graph, weights = openvino.write(made, tmp_path, "model").values()
    # Then the module holds what the halves mean, and the file that rebuilds it holds the halves
    x = inputs_for(made, 8)
    wanted = answers(made.module, x)
    stored = load_file(tmp_path / files.WEIGHTS)
    for name, parameter in parameters.items():
        assert torch.equal(made.module.get_parameter(name), parameter.to(TYPES[kind]).float())
        assert torch.equal(stored[name], parameter.to(TYPES[kind]))
    assert torch.equal(answers(simulated(files.read(tmp_path)), x), wanted)
    # And both runtimes answer so within what float32 allows
    for found in (onnx_answers(path, x), openvino_answers(graph, x)):
        assert torch.allclose(found, wanted, atol=1e-5 * float(wanted.abs().max()))
    # And no file takes more than two bytes for each parameter, and a tenth for statistics and names
    count = sum(parameter.numel() for parameter in parameters.values())
    for file in (path, weights, tmp_path / files.WEIGHTS):
        assert file.stat().st_size < 1.1 * 2 * count
    assert {made.plan.bits(name) for name in parameters} == {16}


@pytest.mark.parametrize("kind", HalfType)
def test_onnx_holds_halves_and_computes_in_float32(kind: HalfType, tmp_path: Path) -> None:
    # Given a network, as it is and cast / When both are exported
    one, other = (
        export(c, tmp_path / f"{i}.onnx")
        for i, c in enumerate((trained_candidate(), halved(trained_candidate(), to=kind)))
    )
    # Then no tensor of more than a few numbers is float32, but the statistics of batch normalization
    large = [t for t in onnx.load(other).graph.initializer if math.prod(t.dims) > 1 and "running" not in t.name]
    assert {t.data_type for t in large} == {IN_ONNX[kind], onnx.TensorProto.INT64}
    # And the runtime does with it what it does with the float32 file: it has widened the halves when it loaded them
    assert [run.operator for run in runs(other)] == [run.operator for run in runs(one)]


def test_recurrent_layers_are_cast_too(tmp_path: Path) -> None:
    # Given a network with an LSTM / When it is cast and exported
    made = halved(candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True))))
    path = export(made, tmp_path / "model.onnx")
    # Then its file answers as it does, and is half as large as its parameters
    x = inputs_for(made, 4)
    assert torch.allclose(onnx_answers(path, x), answers(made.module, x), atol=1e-5)
    large = [t for t in onnx.load(path).graph.initializer if math.prod(t.dims) > 64]
    assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_patterns_say_which_layers() -> None:
    # Given patterns / When a network is cast
    before = trained_candidate().module.state_dict()
    told = Told()
    made = halved(trained_candidate(), told.context(), include=("layer1", "fc"), exclude=("layer1.0.conv1",))
    # Then every parameter of what they mean has 16 bits, biases and normalizations among them
    names = set(made.plan.weights)
    assert {"layer1.0.conv2.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias", "fc.weight", "fc.bias"} <= names
    assert {name.split(".")[0] for name in names} == {"layer1", "fc"}
    assert not any(name.startswith("layer1.0.conv1") for name in names)
    # And the rest is what it was
    after = made.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name not in names)
    assert told.records["layers"] == list(dict.fromkeys(name.rpartition(".")[0] for name in made.plan.weights))


def test_by_default_it_takes_what_earlier_steps_have_left(tmp_path: Path) -> None:
    # Given a network with one stage in four bits, the rest in integers with their activations
    candidate = trained_candidate()
    context = with_images(candidate)
    coded = quantize_weights.apply(candidate, QuantizeWeights(include=("layer1",), all_layers=True), context)
    coded = quantize_static.apply(coded, QuantizeStatic(exclude=("layer1", "layer2")), context)
    # When it is cast
    made = halved(coded)
    # Then what had codes has them still, and all else is halves
    assert all(made.plan.weights[name] is codes for name, codes in coded.plan.weights.items())
    rest = {name for name, weight in made.plan.weights.items() if isinstance(weight, Halves)}
    assert rest == {name for name, _ in made.module.named_parameters()} - set(coded.plan.weights)
    assert any(name.startswith("layer2") for name in rest)
    # And the file computes what is simulated
    x = inputs_for(made, 8)
    path = export(made, tmp_path / "model.onnx")
    wanted = answers(simulated(made), x)
    assert torch.allclose(onnx_answers(path, x), wanted, atol=0.02 * float(wanted.abs().max()))


def test_a_layer_with_codes_is_refused_where_it_is_named() -> None:
    # Given a coded network / When a pattern names one of its layers / Then the layer is named, before the work
    made = quantize_weights.apply(trained_candidate(), QuantizeWeights(include=("layer1",)), Context())
    with pytest.raises(AlreadyQuantized, match=r"layer1\.0\.conv1") as caught:
        cast.preflight(made, Cast(include=("layer1",)))
    assert caught.value.layer == "layer1.0.conv1"


def test_what_is_cast_gets_no_codes() -> None:
    # Given a cast network / When it shall be coded, or cast again / Then both are refused
    made = halved(trained_candidate())
    with pytest.raises(AlreadyQuantized, match="conv1"):
        quantize_weights.preflight(made, QuantizeWeights())
    with pytest.raises(AlreadyQuantized, match="conv1"):
        quantize_static.apply(made, QuantizeStatic(), with_images(made))
    with pytest.raises(NothingToQuantize, match="left"):
        cast.preflight(made, Cast())


def test_a_value_that_float16_does_not_have_is_refused_with_its_layer() -> None:
    # Given a network with one weight of 70,000 / When it is cast to float16 / Then the failure names it
    candidate = residual()
    candidate.module.get_parameter("depthwise.0.bias").data[3] = -70_000
    with pytest.raises(UnfitModel, match=r"depthwise\.0\.bias has values up to 70000, and float16 ends") as caught:
        halved(candidate)
    assert caught.value.layer == "depthwise.0"
    # And bfloat16 has it, within its eight bits
    made = halved(candidate, to="bfloat16")
    assert float(made.module.get_parameter("depthwise.0.bias").data[3]) == pytest.approx(-70_000, rel=2**-8)


@pytest.mark.parametrize("kind", HalfType)
def test_values_too_small_for_float16_are_told(kind: HalfType) -> None:
    # Given a layer of which half the weights are below what float16 has
    candidate, told = residual(), Told()
    weight = candidate.module.get_parameter("head.weight").data
    weight[:2] *= 1e-8
    # When it is cast
    halved(candidate, told.context(), to=kind)
    # Then float16 makes them zero and says so, and bfloat16 has nothing to say
    small = kind is HalfType.FLOAT16
    assert told.records["became_zero"] == ({"head.weight": 32} if small else {})
    assert ("values_became_zero" in told.notices) == small
    if small:
        assert "head.weight" in told.notices["values_became_zero"]


def test_pruned_weights_stay_pruned_and_are_stored_sparse(tmp_path: Path) -> None:
    # Given a pruned network / When it is cast and written
    pruned = prune_weights.apply(named("resnet18", size=32), PruneWeights(amount=0.9), Context())
    made = halved(pruned)
    files.write(made, tmp_path)
    again = files.read(tmp_path)
    # Then its zeros are zero, and what is left takes two bytes and less than half a bit for its place
    for name, mask in pruned.masks.items():
        assert not again.module.get_parameter(name)[~mask].any()
        assert torch.equal(again.masks[name], mask)
    count = sum(parameter.numel() for parameter in made.module.parameters())
    assert (tmp_path / files.WEIGHTS).stat().st_size < (0.1 * 2 + 0.5 / 8 + 0.01) * count


def test_a_file_that_holds_floats_where_it_says_halves_is_refused(tmp_path: Path) -> None:
    # Given a cast network in whose file one tensor is float32 / When it is read / Then it says so
    files.write(halved(trained_candidate()), tmp_path)
    stored = load_file(tmp_path / files.WEIGHTS)
    save_file(stored | {"fc.weight": stored["fc.weight"].float()}, tmp_path / files.WEIGHTS)
    with pytest.raises(InvalidModel):
        files.read(tmp_path)
