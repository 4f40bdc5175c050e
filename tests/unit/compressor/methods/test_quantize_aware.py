"""Training for integers: what was trained is what is deployed, and what was learned is kept."""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context, Interrupted, NoCheckpoints, TrainingState
from compressor.exports import openvino
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.exports.openvino_runtime import open_file
from compressor.freezing import freeze
from compressor.methods import quantize_dynamic, quantize_static, quantize_weights
from compressor.methods.quantize_aware import apply
from compressor.models import files
from compressor.quantization.aware import Aware, made_aware
from compressor.quantization.graph import capture
from compressor.quantization.learned import WeightStep
from compressor.quantization.levels import LevelCodes
from compressor.quantization.processor import INTEGERS, here
from compressor.quantization.simulate import simulated
from contract.failures import AlreadyQuantized, NothingToQuantize
from contract.methods.aware import QuantizeAware
from contract.methods.low_bit import QuantizeWeights
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from contract.report import QuantizationFidelity
from tests.unit.compressor import small_jobs
from tests.unit.compressor.interrupting import GoOnFrom, StopAt
from tests.unit.compressor.networks import answers, gated, images_for, inputs_for, onnx_answers, residual, unusual
from tests.unit.compressor.processors import needs_exact_sums
from tests.unit.compressor.quantization.steps import Told

RECIPE: dict[str, Any] = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3}


def context_for(candidate: Candidate, checkpoints: Any = None) -> Context:
    """Noise to learn from, and the network as it is to teach."""
    data, teacher = images_for(candidate, 48), copy.deepcopy(candidate)
    teacher.module.requires_grad_(False)
    return Context(
        train=data,
        calibration=data,
        others={"original": lambda: teacher},
        checkpoints=checkpoints or NoCheckpoints(),
    )


def quantized(candidate: Candidate, context: Context | None = None, **params: object) -> Candidate:
    return apply(candidate, QuantizeAware.model_validate(RECIPE | params), context or context_for(candidate))


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest logit."""
    return float((a - b).abs().max() / a.abs().max())


def trained() -> tuple[Candidate, Context]:
    """A network that is right on nine images in ten, and what it was trained on."""
    candidate, data = small_jobs.trained_candidate(), small_jobs.images(240, seed=0)
    return candidate, replace(context_for(candidate), train=data, calibration=data)


@pytest.mark.parametrize(
    ("network", "how"),
    [(residual, {"freeze_after": 0.5, "target": "x86-avx2"}), (gated, {}), (unusual, {})],
    ids=["sums", "gates", "traps"],
)
def test_the_file_answers_as_planned(network: Any, how: dict[str, Any], tmp_path: Path) -> None:
    # Given a network with sums, gates or traps / When it is trained for integers
    made = quantized(network(), **how)
    # Then every layer that sees the image has integers, and simulation and file agree
    x = inputs_for(made)
    path = export(made, tmp_path / "model.onnx")
    assert int8_macs_fraction(path) > 0.9
    assert distance(answers(simulated(made), x), onnx_answers(path, x)) < 0.02
    # And the module holds what its codes mean
    assert all(torch.equal(w.dequantized(), made.module.get_parameter(n)) for n, w in made.plan.weights.items())


def aware_of(candidate: Candidate) -> Aware:
    """The network in training for a plan, as it is at the start."""
    steps = {name: WeightStep(weight.scale, bits=weight.bits) for name, weight in candidate.plan.integers.items()}
    return made_aware(capture(candidate.module, candidate.input_shape), steps, candidate.plan.activations)


@pytest.mark.parametrize("network", [residual, gated])
def test_what_trains_answers_as_what_is_deployed(network: Any) -> None:
    # Given a plan / When the network in training computes what it means
    planned = quantize_static.apply(network(), QuantizeStatic(correct_bias=False), context_for(network()))
    aware, x = aware_of(planned), inputs_for(planned)
    freeze(aware.network.train())
    found = aware.network(x)
    # Then it answers as the simulated integers, and every weight and step that is free learns of it
    assert distance(answers(simulated(planned), x), found.detach()) < 1e-3
    found.square().sum().backward()
    assert set(aware.weights) == planned.plan.weights.keys()
    assert set(aware.activations) == planned.plan.activations.keys()
    for parameter in aware.network.parameters():
        assert parameter.grad is not None or not parameter.requires_grad


def test_a_gate_keeps_its_step_and_a_clamp_its_end() -> None:
    # Given networks with a gate and with a ReLU6, of a range that training has made too wide
    wide = {site: code.model_copy(update={"scale": 0.1}) for site, code in _activations(residual()).items()}
    aware = made_aware(capture(residual().module, (3, 8, 8)), {}, wide)
    steps = {site: step.now().item() for site, step in aware.activations.items()}
    # Then no code means more than the ReLU6 lets through, and others mean what they did
    assert steps.pop("depthwise.2/hardtanh") == pytest.approx(6 / 255)
    assert list(steps.values()) == pytest.approx([0.1] * len(steps))
    # And the gate's step is not learned
    steps = made_aware(capture(gated().module, (3, 8, 8)), {}, _activations(gated())).activations
    fixed = {site for site, step in steps.items() if not step.growth.requires_grad}
    assert fixed == {site for site in steps if "sigmoid" in site} != set()


def _activations(candidate: Candidate) -> Any:
    return quantize_static.apply(candidate, QuantizeStatic(), context_for(candidate)).plan.activations


def test_frozen_statistics_stay_and_free_ones_follow() -> None:
    # Given a network in training / When it sees images that differ from all before
    planned = quantize_static.apply(residual(), QuantizeStatic(), context_for(residual()))
    aware, x = aware_of(planned), inputs_for(planned) + 1
    mean = planned.module.stem[1].running_mean
    before = mean.clone()
    aware.network.eval()(x)
    assert torch.equal(mean, before)
    aware.network.train()(x)
    followed = mean.clone()
    # Then the candidate's statistics follow in training, until they are frozen
    assert not torch.equal(followed, before)
    freeze(aware.network)
    aware.network(x)
    assert torch.equal(mean, followed)


def test_it_gives_back_what_coarse_codes_took() -> None:
    # Given weights of two bits from an earlier step, and activations in eight / When they are trained
    (candidate, context), new = trained(), small_jobs.images(240, seed=1)
    stored = quantize_weights.apply(candidate, QuantizeWeights(bits=2, scheme="symmetric", all_layers=True), context)
    rounded = quantize_static.apply(copy.deepcopy(stored), QuantizeStatic(), context)
    made = apply(stored, QuantizeAware(epochs=3, batch_size=24, learning_rate=1e-3), context)
    # Then it is right more often than without training, and its weights have codes of the form that they had
    before, after = (answers(simulated(c), new.normalized(new.pixels)).argmax(1) for c in (rounded, made))
    assert (after == new.labels).double().mean() > (before == new.labels).double().mean() + 0.05
    assert all(isinstance(w, LevelCodes) and len(w.levels) == 3 for w in made.plan.weights.values())


@pytest.mark.parametrize(("rate", "ruined"), [(1e-3, False), (0.3, True)])
def test_a_training_that_ruins_the_network_is_told(rate: float, ruined: bool) -> None:
    # Given a trained network / When it is trained for integers at a rate that is right, and at one that is none
    (candidate, context), told = trained(), Told()
    apply(candidate, QuantizeAware(epochs=1, batch_size=24, optimizer="sgd", learning_rate=rate), told.context(context))
    # Then a notice tells what was lost and what to do, where it was
    assert ("learning_rate" in told.notices.get("ruined_by_training", "")) is ruined


def test_integers_learn_and_stay_near_to_the_original() -> None:
    # Given a trained network / When it is trained for integers
    (candidate, context), told = trained(), Told()
    before = copy.deepcopy(candidate.module.state_dict())
    made = apply(candidate, QuantizeAware(epochs=1, batch_size=24), told.context(context))
    # Then weights, steps and shifts have learned, and statistics have not
    moved = {name for name, t in made.module.state_dict().items() if not torch.equal(t, before[name])}
    assert {name for name, _ in made.module.named_parameters()} <= moved
    assert not any("running" in name for name in moved)
    # And the step tells how near the answers are, before and after
    found = {name: told.records[name] for name in ("before_training", "quantization")}
    assert all(QuantizationFidelity.model_validate(one).top1_agreement > 0.95 for one in found.values())
    assert told.records["layers"] == list(dict.fromkeys(name.rpartition(".")[0] for name in made.plan.weights))
    assert told.records["weight_bits"] == INTEGERS[here()].weight_bits


@pytest.mark.parametrize(("bits", "quantizer"), [(1, "lsq"), (4, "lsq"), (8, "lsq"), (3, "dorefa")])
def test_pruned_weights_stay_zero(bits: int, quantizer: str) -> None:
    # Given a network with masks
    candidate = residual()
    masks = {name: torch.rand_like(p) < 0.5 for name, p in candidate.module.named_parameters() if p.dim() > 1}
    candidate = replace(candidate, masks=masks)
    candidate.apply_masks()
    # When it is trained for integers / Then what is masked has the code of zero
    how = {"bits": bits, "quantizer": quantizer, "all_layers": True}
    made = quantized(candidate, weight_decay=0.1, average=0.9, **how)
    for name, mask in masks.items():
        assert not made.plan.integers[name].codes[~mask].any()
        assert not made.module.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("how", [{"freeze_after": 0.6}, {"average": 0.9, "keep": "best", "held_out": 0.25}], ids=str)
def test_an_interrupted_training_ends_as_an_uninterrupted_one(how: dict[str, Any]) -> None:
    # Given a training of three epochs, and the same one stopped behind its second
    whole = quantized(residual(), epochs=3, **how)
    stop = StopAt(2)
    with pytest.raises(Interrupted):
        quantized(residual(), context_for(residual(), stop), epochs=3, **how)
    # When the second goes on from what was kept
    resumed = quantized(residual(), context_for(residual(), GoOnFrom(stop.kept[-1])), epochs=3, **how)
    # Then weights, codes and steps are the same, bit for bit
    mine, other = whole.module.state_dict(), resumed.module.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert all(torch.equal(t, resumed.plan.tensors()[name]) for name, t in whole.plan.tensors().items())
    assert resumed.plan.activations == whole.plan.activations


def test_the_rest_can_be_quantized_behind_it() -> None:
    # Given a network of which all but one layer was trained for integers
    made = quantized(residual(), exclude=("depthwise",))
    learned = dict(made.plan.activations)
    assert made.plan.layers == {"stem.0", "project.0", "head"}
    # When the rest is quantized without training
    after = quantize_static.apply(made, QuantizeStatic(include=("depthwise",)), context_for(made))
    # Then what was learned is kept
    assert after.plan.layers == {"stem.0", "depthwise.0", "project.0", "head"}
    assert learned.items() <= after.plan.activations.items()


def test_what_cannot_be_trained_is_refused() -> None:
    # Given a layer with integers from an earlier step / When the others are trained / Then that layer is named
    dynamic = quantize_dynamic.apply(residual(), QuantizeDynamic(), context_for(residual()))
    with pytest.raises(AlreadyQuantized, match=r"^head has its integers"):
        quantized(dynamic, exclude=("head",))
    # Given stored codes that no integer kernel multiplies / When nothing is left / Then that is said
    ternary = QuantizeWeights(scheme="ternary", bits=2, all_layers=True)
    stored = quantize_weights.apply(residual(), ternary, context_for(residual()))
    with pytest.raises(NothingToQuantize, match=r"no integer kernel.* scheme symmetric"):
        quantized(stored)


FOUR: dict[str, Any] = {"bits": 4, "activation_bits": 4}


@pytest.mark.parametrize(
    ("network", "how"),
    [(residual, FOUR), (residual, {"bits": 1}), (gated, {"bits": 2, "activation_bits": 3})],
    ids=["four", "one", "two"],
)
def test_few_bits_run_in_integer_kernels_as_planned(network: Any, how: dict[str, Any], tmp_path: Path) -> None:
    # Given a network in few bits, its ends too
    made = quantized(network(), all_layers=True, epochs=1, **how)
    # Then no code is larger, and there are activations that have as few
    assert all(int(w.codes.abs().max()) <= max(1, 2 ** (how["bits"] - 1)) for w in made.plan.integers.values())
    assert min(code.top for code in made.plan.activations.values()) == 2 ** how.get("activation_bits", 8) - 1
    # And the file computes in integers what the plan means
    x = inputs_for(made)
    planned, path = answers(simulated(made), x), export(made, tmp_path / "model.onnx")
    assert distance(planned, onnx_answers(path, x)) < 1e-3
    assert int8_macs_fraction(path) == 1.0


@pytest.mark.parametrize(("quantizer", "bits"), [("pact", 2), ("dorefa", 7)])
def test_odd_codes_run_in_integer_kernels_as_planned(quantizer: str, bits: int, tmp_path: Path) -> None:
    # Given a network whose weights have odd codes, its ends too, for kernels that want a bit free
    how = {"quantizer": quantizer, "bits": bits, "activation_bits": 4, "target": "x86-avx2"}
    made = quantized(residual(), all_layers=True, epochs=1, **how)
    # Then codes are odd, as many as the bits tell apart, and leave that bit free
    most = min(bits, 6)
    found = torch.cat([weight.codes.flatten() for weight in made.plan.integers.values()])
    assert bool((found % 2 != 0).all())
    assert int(found.abs().max()) == 2**most - 1
    assert {weight.bits for weight in made.plan.integers.values()} == {most}
    # And the file computes in integers what the plan means
    x = inputs_for(made)
    planned, path = answers(simulated(made), x), export(made, tmp_path / "model.onnx")
    assert distance(planned, onnx_answers(path, x)) < 1e-3
    assert int8_macs_fraction(path) == 1.0


def test_quantizers_differ_in_what_they_learn_of_activations() -> None:
    # Given a network quantized without training / When it is trained by each quantizer
    static = {"calibrator": "mse", "correct_bias": False, "smooth": None, "activation_bits": 4}
    start = quantize_static.apply(residual(), QuantizeStatic.model_validate(static), context_for(residual()))
    moved = {name: _moved(start, name) for name in ("lsq", "pact", "dorefa")}
    # Then ranges stay with DoReFa, and with the others what is read by no gate alone learns
    assert not moved["dorefa"]
    assert moved["lsq"] == moved["pact"] == start.plan.activations.keys()


def _moved(start: Candidate, quantizer: str) -> set[str]:
    """The sites whose scale training has changed."""
    made = quantized(residual(), quantizer=quantizer, bits=4, activation_bits=4, clip_decay=0.01)
    return {site for site, code in made.plan.activations.items() if code.scale != start.plan.activations[site].scale}


def test_it_starts_at_the_calibrated_steps_and_has_no_codes_below_zero_behind_a_relu() -> None:
    # Given a training that moves nothing / When it is over
    how = FOUR | {"target": "x86-vnni", "calibrator": "mse"}
    made = quantized(residual(), epochs=1, learning_rate=1e-12, **how)
    static = QuantizeStatic.model_validate(how | {"correct_bias": False, "smooth": None})
    start = quantize_static.apply(residual(), static, context_for(residual())).plan
    # Then steps are those that quantization without training measures
    for site, code in start.activations.items():
        assert made.plan.activations[site].scale == pytest.approx(code.scale)
    for name, weight in start.integers.items():
        assert torch.allclose(made.plan.integers[name].scale, weight.scale)
    # And behind a ReLU all sixteen codes are for values from zero on
    code = made.plan.activations["stem.2/relu"]
    assert (code.zero_point, code.top) == (0, 15)
    assert made.plan.activations["image"].zero_point > 0


def test_normalization_is_frozen_for_the_last_third_with_few_bits() -> None:
    # Given a training of three epochs in four bits, and one in eight / When each epoch is over
    few, many = (_means(bits=bits) for bits in (4, 8))
    # Then statistics follow for two of three epochs, and keep still in the last; with eight bits they never move
    assert not torch.equal(few[0], few[1])
    assert torch.equal(few[1], few[2])
    assert torch.equal(many[0], many[2])


def _means(bits: int) -> list[Tensor]:
    """Running means of a layer behind each of three epochs."""
    kept = Kept()
    quantized(residual(), context_for(residual(), kept), epochs=3, bits=bits, activation_bits=bits)
    return kept.means


@dataclass
class Kept:
    """Checkpoints that write down how statistics have moved."""

    means: list[Tensor] = field(default_factory=list)

    def resume(self) -> TrainingState | None:
        return None

    def save(self, state: TrainingState) -> None:
        self.means.append(state.tensors["module.stem.1.running_mean"].clone())


def test_codes_of_few_bits_end_where_they_end_in_training() -> None:
    # Given a plan of which one activation has so few codes that they do not reach its largest values
    planned = quantize_static.apply(residual(), QuantizeStatic(correct_bias=False), context_for(residual()))
    code = planned.plan.activations["stem.2/relu"]
    few = code.model_copy(update={"scale": code.scale / 16, "top": 15})
    narrow = replace(planned, plan=replace(planned.plan, activations={**planned.plan.activations, "stem.2/relu": few}))
    x = inputs_for(planned)
    # When it is simulated / Then it answers as the network in training, and not as with all codes
    found = answers(simulated(narrow), x)
    assert distance(answers(aware_of(narrow).network.eval(), x), found) < 1e-2
    assert distance(answers(simulated(planned), x), found) > 0.1


@needs_exact_sums
def test_every_format_holds_few_bits(tmp_path: Path) -> None:
    # Given few bits for ARM, whose activations are signed in a file / When they are written for two runtimes
    made = quantized(residual(), epochs=1, target="arm64", **FOUR)
    x = inputs_for(made)
    graph, _ = openvino.write(made, tmp_path, "model").values()
    # Then both answer as planned
    planned = answers(simulated(made), x)
    assert distance(planned, onnx_answers(export(made, tmp_path / "model.onnx"), x)) < 0.02
    assert distance(planned, torch.from_numpy(open_file(graph, 1)(x.numpy()))) < 0.02


@pytest.mark.parametrize(
    "how",
    [
        {"bits": 1},
        {"bits": 2, "activation_bits": 4},
        {"bits": 2, "activation_bits": 2, "quantizer": "pact"},
    ],
    ids=str,
)
def test_training_gives_back_what_few_bits_take(how: dict[str, Any], tmp_path: Path) -> None:
    # Given a trained network / When it is trained in few bits
    (candidate, context), told = trained(), Told()
    params = QuantizeAware(epochs=3, batch_size=24, learning_rate=1e-3, **how)
    made = apply(candidate, params, told.context(context))
    # Then it answers as the original does far more often than it did without training
    before, after = (
        QuantizationFidelity.model_validate(told.records[name]) for name in ("before_training", "quantization")
    )
    assert after.top1_agreement > max(0.95, before.top1_agreement + 0.05)
    assert after.kl < 0.2 * before.kl
    # And on new images too
    new = small_jobs.images(240, seed=1)
    assert (answers(simulated(made), new.normalized(new.pixels)).argmax(1) == new.labels).double().mean() > 0.9
    # And what is written and rebuilt answers so, and its file is smaller than one of bytes
    files.write(made, tmp_path)
    x = inputs_for(made, 8)
    assert torch.equal(answers(files.load_model(tmp_path), x), answers(simulated(made), x))
    assert (tmp_path / files.WEIGHTS).stat().st_size < 0.6 * sum(p.numel() for p in made.module.parameters())
    assert set(told.notices) == {"low_bit_is_storage_only"}


def test_first_and_last_layer_and_what_is_only_added_up_have_eight_bits() -> None:
    # Given a network in few bits / When nothing else is asked for
    told = Told()
    quantized(residual(), told.context(context_for(residual())), epochs=1, target="x86-vnni", **FOUR)
    # Then its ends have eight, and so has what no layer in between reads
    assert told.records["bits"] == {"stem.0": 8, "depthwise.0": 4, "project.0": 4, "head": 8}
    few = {site for site, bits in dict(told.records["activation_bits"]).items() if bits == 4}  # type: ignore[arg-type]
    assert few == {"stem.2/relu", "depthwise.2/hardtanh"}


@pytest.mark.parametrize(
    "wrong",
    [{"bits": 0}, {"bits": 9}, {"activation_bits": 1}, {"precision": "bf16"}, {"quantizer": "pact"}, {"clip_decay": 2}],
    ids=str,
)
def test_what_it_cannot_do_is_refused_by_the_field(wrong: dict[str, Any]) -> None:
    # Given params out of bounds, or digits too few for codes / When they are read / Then the field is named
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        QuantizeAware.model_validate(wrong)
