"""INT8 with measured ranges: what the plan means, what the file computes, and what is refused."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.exports.onnx_runtime import int8_macs_fraction, runs
from compressor.measure.counting import count_macs, layer_reports
from compressor.methods.quantize_dynamic import apply as quantize_dynamic
from compressor.methods.quantize_static import apply, preflight
from compressor.models import files
from compressor.models.torchvision_ops import torchvision
from compressor.quantization.processor import weight_bits
from compressor.quantization.simulate import simulated
from compressor.training.objectives import kl_divergence
from contract.failures import (
    AlreadyQuantized,
    InvalidDataset,
    LimitUnmet,
    MissingData,
    NoLayerMatches,
    NothingToQuantize,
    UnfitModel,
)
from contract.methods.quantize import QuantizeDynamic, QuantizeStatic
from contract.report import QuantizationFidelity
from tests.unit.compressor.networks import (
    answers,
    candidate_of,
    gated,
    images_for,
    inputs_for,
    named,
    onnx_answers,
    residual,
    shared,
    unusual,
)
from tests.unit.compressor.processors import needs_exact_sums
from tests.unit.compressor.quantization.steps import Told, with_images


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a part of the largest logit."""
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_every_product_runs_in_integers_and_the_file_computes_what_the_plan_means(name: str, tmp_path: Path) -> None:
    # Given a network of the catalogue
    candidate = named(name)
    x = inputs_for(candidate)
    before = answers(candidate.module, x)
    parameters = sum(p.numel() for p in candidate.module.parameters())
    # When it is quantized and written
    candidate = apply(candidate, QuantizeStatic(), with_images(candidate))
    path = export(candidate, tmp_path / "int8.onnx")
    # Then a weight takes a byte, and the runtime has an integer kernel for every convolution and the classifier
    assert path.stat().st_size < 1.12 * parameters
    assert int8_macs_fraction(path) == 1.0
    # And its answers are those of the simulation, which are near to the original's
    planned = answers(simulated(candidate), x)
    assert _distance(planned, onnx_answers(path, x)) < 1e-3
    assert 0 < _distance(before, planned) < 0.1


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"per_channel": False, "equalize": True},
        {"calibrator": "moving_average", "activations": "symmetric"},
        {"calibrator": "percentile", "correct_bias": False},
        {"calibrator": "entropy", "target": "x86-avx2"},
        {"calibrator": "mse", "rounding": "adaptive"},
        pytest.param({"target": "arm64"}, marks=needs_exact_sums),
        pytest.param({"target": "arm64", "activations": "asymmetric"}, marks=needs_exact_sums),
    ],
    ids=str,
)
def test_every_choice_is_simulated_as_the_file_computes_it(choice: dict[str, object], tmp_path: Path) -> None:
    # Given a network with each kind of layer, one channel of which batch normalization closes
    candidate = residual()
    with torch.no_grad():
        candidate.module.stem[1].weight[3] = 0
    params = QuantizeStatic.model_validate(choice)
    # When it is quantized
    candidate = apply(candidate, params, with_images(candidate))
    # Then simulation and file agree
    x = inputs_for(candidate)
    planned, found = answers(simulated(candidate), x), onnx_answers(export(candidate, tmp_path / "model.onnx"), x)
    assert _distance(planned, found) < 1e-3


def test_what_only_looks_like_a_chain_is_not_taken_for_one(tmp_path: Path) -> None:
    # Given a layer used thrice, normalization behind a sum and by the batch, a fixed filter, a layer over a constant
    candidate, told = unusual(), Told()
    x = inputs_for(candidate)
    before = answers(candidate.module, x)
    # When it is quantized
    candidate = apply(candidate, QuantizeStatic(), told.context(with_images(candidate)))
    # Then the trained layers that see the image are, each weight once
    assert candidate.plan.layers == {"conv", "twice", "head"}
    assert told.records["layers_left_float"] == ["of_table"]
    # And simulation and file agree, and are near to the original
    planned = answers(simulated(candidate), x)
    assert _distance(planned, onnx_answers(export(candidate, tmp_path / "model.onnx"), x)) < 0.02
    assert 0 < _distance(before, planned) < 0.1


def test_gates_run_in_integers_too(tmp_path: Path) -> None:
    # Given a network whose activations are multiplied with gates made of them
    candidate = gated()
    x = inputs_for(candidate)
    before = answers(candidate.module, x)
    # When it is quantized
    candidate = apply(candidate, QuantizeStatic(), with_images(candidate))
    path = export(candidate, tmp_path / "model.onnx")
    # Then the runtime's graph reads floats once and gives them once: nothing in between leaves the integers
    operators = Counter(run.operator for run in runs(path))
    assert operators["QLinearMul"] == 3
    assert {"Mul", "Sigmoid", "HardSigmoid", "HardSwish", "DequantizeLinear", "ReduceMean"}.isdisjoint(operators)
    # And simulation and file agree, and are near to the original
    planned = answers(simulated(candidate), x)
    assert _distance(planned, onnx_answers(path, x)) < 1e-3
    assert 0 < _distance(before, planned) < 0.1


def test_attention_keeps_its_own_arithmetic_and_its_layers_become_integers(tmp_path: Path) -> None:
    # Given a small vision transformer
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torchvision().models.VisionTransformer(
            32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=4
        )
        nn.init.normal_(module.heads.head.weight)
    candidate = candidate_of(module, size=32)
    x = inputs_for(candidate)
    before = answers(module, x)
    # When it is quantized
    candidate = apply(candidate, QuantizeStatic(), with_images(candidate))
    path = export(candidate, tmp_path / "model.onnx")
    # Then its linear layers, those within attention too, are integers, and only attention's own products are float
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in candidate.plan.weights
    assert 0.8 < int8_macs_fraction(path) < 1
    # And simulation and file agree, for one image as for many
    planned = answers(simulated(candidate), x)
    assert _distance(planned, onnx_answers(path, x)) < 0.01
    assert _distance(planned[:1], onnx_answers(path, x[:1])) < 0.01
    assert _distance(before, planned) < 0.1


def test_a_written_plan_is_simulated_alike_after_a_rebuild(tmp_path: Path) -> None:
    # Given a quantized network
    candidate = named("resnet18", size=32)
    candidate = apply(candidate, QuantizeStatic(), with_images(candidate))
    # When it is written and rebuilt from its architecture
    files.write(candidate, tmp_path)
    again = files.load_model(tmp_path)
    # Then it answers as before, bit by bit, and its file holds bytes for weights
    x = inputs_for(candidate, 4)
    assert torch.equal(answers(again, x), answers(simulated(candidate), x))
    parameters = sum(p.numel() for p in candidate.module.parameters())
    assert (tmp_path / files.WEIGHTS).stat().st_size < 1.05 * parameters


def test_pruned_weights_stay_zero_and_the_others_are_what_the_codes_mean() -> None:
    # Given a network with masks
    candidate = residual()
    masks = {name: torch.rand_like(p) < 0.5 for name, p in candidate.module.named_parameters() if p.dim() > 1}
    candidate = replace(candidate, masks=masks)
    candidate.apply_masks()
    # When it is quantized
    candidate = apply(candidate, QuantizeStatic(), with_images(candidate))
    # Then what is masked is zero, in the module and in the codes, and the module holds what the codes mean
    for name, mask in masks.items():
        weight = candidate.plan.weights[name]
        assert not weight.codes[~mask].any()
        assert torch.equal(candidate.module.get_parameter(name), weight.dequantized())
    assert candidate.masks is masks


def test_excluded_layers_stay_as_they_were(tmp_path: Path) -> None:
    # Given a network
    candidate = residual()
    depthwise, stem = candidate.module.depthwise[0].weight.clone(), candidate.module.stem[0].weight.clone()
    # When all but one layer is quantized
    told = Told()
    candidate = apply(candidate, QuantizeStatic(exclude=("depthwise",)), told.context(with_images(candidate)))
    # Then that layer's weights are untouched and the others are not
    assert torch.equal(candidate.module.depthwise[0].weight, depthwise)
    assert not torch.equal(candidate.module.stem[0].weight, stem)
    assert candidate.plan.layers == {"stem.0", "project.0", "head"}
    # And the step tells which it took
    assert told.records["layers"] == ["stem.0", "project.0", "head"]
    assert told.records["calibration_images"] == 32
    assert told.notices == {}
    # And simulation and file still agree, but for what float convolutions leave between two codes
    x = inputs_for(candidate)
    found = onnx_answers(export(candidate, tmp_path / "model.onnx"), x)
    assert _distance(answers(simulated(candidate), x), found) < 0.02


def test_pruned_weights_stay_zero_through_every_correction() -> None:
    # Given a network with masks
    candidate = residual()
    masks = {name: torch.rand_like(p) < 0.5 for name, p in candidate.module.named_parameters() if p.dim() > 1}
    candidate = replace(candidate, masks=masks)
    candidate.apply_masks()
    # When it is equalized, rounded adaptively and corrected
    params = QuantizeStatic(equalize=True, rounding="adaptive", target="x86-avx2")
    candidate = apply(candidate, params, with_images(candidate))
    # Then what is masked is zero, and no code needs the bit that such processors must have free
    for name, mask in masks.items():
        assert not candidate.plan.weights[name].codes[~mask].any()
        assert not candidate.module.get_parameter(name)[~mask].any()
        assert int(candidate.plan.weights[name].codes.abs().max()) <= 63


def test_a_file_for_arm_has_signed_activations_and_computes_the_same(tmp_path: Path) -> None:
    # Given a network with gates, quantized for this machine's processor and for ARM's
    told = Told()
    here = apply(gated(), QuantizeStatic(target="x86-vnni", activations="symmetric"), with_images(gated()))
    there = apply(gated(), QuantizeStatic(target="arm64"), told.context(with_images(gated())))
    # Then the values that codes stand for are the same
    x = inputs_for(here)
    assert torch.equal(answers(simulated(here), x), answers(simulated(there), x))
    # And only the one for ARM has no unsigned code, and answers as planned
    files_of = [export(candidate, tmp_path / f"{n}.onnx") for n, candidate in enumerate((here, there))]
    kinds = [{c.data_type for c in _constants(onnx.load(path))} for path in files_of]
    assert TensorProto.UINT8 in kinds[0]
    assert TensorProto.UINT8 not in kinds[1]
    assert _distance(answers(simulated(there), x), onnx_answers(files_of[1], x)) < 0.02
    # And the step says that nobody has timed it there, and whether its answers here may be off
    assert told.records["target"] == "arm64"
    assert "arm64" in told.notices["other_target"]
    assert ("saturate" in told.notices["other_target"]) == (weight_bits() < 8)


def _constants(model: onnx.ModelProto) -> list[TensorProto]:
    made = [a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    return [*model.graph.initializer, *made]


def test_symmetric_activations_have_zero_in_the_middle_or_at_the_end() -> None:
    # Given a network with activations on both sides of zero, and such behind a ReLU
    candidate = apply(residual(), QuantizeStatic(activations="symmetric"), with_images(residual()))
    # Then zero has the middle code, or the first
    codes = candidate.plan.activations
    assert codes["image"].zero_point == 128
    assert codes["stem.2/relu"].zero_point == 0
    assert {code.zero_point for code in codes.values()} == {0, 128}
    # And so it is for ARM, unless it is asked for otherwise
    there, uneven = (
        apply(residual(), QuantizeStatic.model_validate({"target": "arm64"} | more), with_images(residual()))
        for more in ({}, {"activations": "asymmetric"})
    )
    assert {code.zero_point for code in there.plan.activations.values()} == {0, 128}
    assert {code.zero_point for code in uneven.plan.activations.values()} > {0}
    assert uneven.plan.activations["project.1/batch_norm"].zero_point not in (0, 128)


def _with_a_ruined_layer() -> Candidate:
    """One weight of a layer is so large that with one scale for all of them the others are lost."""
    candidate = residual()
    with torch.no_grad():
        candidate.module.stem[0].weight[0] *= 1e4
        candidate.module.stem[1].weight[0] /= 1e4
        candidate.module.stem[1].running_mean[0] *= 1e4
    return candidate


def _judged(candidate: Candidate) -> Context:
    """Images that the network is right on, so that every changed answer is one lost."""
    images = images_for(candidate, 128)
    labels = answers(candidate.module, images.normalized(images.pixels)).argmax(1)
    return Context(calibration=replace(images, labels=labels))


def test_layers_go_back_to_float_until_the_limit_holds(tmp_path: Path) -> None:
    # Given a network of which one layer cannot be quantized with one scale for all of it
    candidate, told = _with_a_ruined_layer(), Told()
    before = candidate.module.stem[0].weight.clone()
    context = told.context(_judged(candidate))
    free = apply(_with_a_ruined_layer(), QuantizeStatic(per_channel=False, correct_bias=False), context)
    assert "stem.0.weight" in free.plan.weights
    # When little accuracy may be lost
    params = QuantizeStatic(per_channel=False, correct_bias=False, max_drop=0.04)
    held = apply(candidate, params, context)
    # Then that layer, and no other, is float again, bit by bit
    assert told.records["put_back_to_float"] == ["stem.0"]
    assert held.plan.layers == {"depthwise.0", "project.0", "head"}
    assert torch.equal(held.module.stem[0].weight, before)
    # And the step tells how much each moves the answers, and what was reached
    ranking = told.records["ranking"]
    assert next(iter(ranking)) == "stem.0"
    assert list(ranking.values()) == sorted(ranking.values(), reverse=True)
    assert told.records["drop"] <= 0.04
    # And the drop is that of the plan as it is delivered, in the file too
    assert context.calibration is not None
    x, labels = inputs_for(candidate, 128), context.calibration.labels
    planned = answers(simulated(held), x)
    assert float((planned.argmax(1) != labels).double().mean()) == pytest.approx(told.records["drop"])
    assert _distance(planned, onnx_answers(export(held, tmp_path / "model.onnx"), x)) < 0.02


def test_a_limit_that_holds_at_once_puts_nothing_back_and_one_that_cannot_is_said() -> None:
    # Given a network that quantizes well
    told = Told()
    apply(residual(), QuantizeStatic(max_drop=0.1), told.context(_judged(residual())))
    assert "put_back_to_float" not in told.records
    assert told.records["drop"] <= 0.1
    # And one whose only layer does not
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    candidate = candidate_of(module)
    context = _judged(candidate)
    with torch.no_grad():
        module[1].weight[:, 0] = 1e4
        module[1].bias -= 1e4 * inputs_for(candidate, 128).flatten(1)[:, 0].mean()
    # When nothing may be lost, then it is said which layer is in the way
    with pytest.raises(LimitUnmet, match=r"1 alone"):
        apply(candidate, QuantizeStatic(max_drop=0.0), replace(context, calibration=_judged(candidate).calibration))


def test_the_step_tells_how_near_it_stays_without_a_label() -> None:
    # Given a network, and labels that are all wrong
    told, candidate = Told(), residual()
    images = images_for(candidate, 64)
    context = Context(calibration=replace(images, labels=torch.full((64,), 3)))
    before = answers(candidate.module, images.normalized(images.pixels))
    # When it is quantized
    made = apply(candidate, QuantizeStatic(), told.context(context))
    # Then every layer's noise is told, and what became of the answers
    found = QuantizationFidelity.model_validate(told.records["quantization"])
    assert [layer.name for layer in found.layers] == ["stem.0", "depthwise.0", "project.0", "head"]
    assert all(layer.sqnr_db is not None and 15 < layer.sqnr_db < 60 for layer in found.layers)
    after = answers(simulated(made), images.normalized(images.pixels))
    changed = before.argmax(1) != after.argmax(1)
    assert found.images == 64
    assert found.top1_agreement == pytest.approx(1 - float(changed.double().mean()), abs=1 / 64)
    assert found.kl == pytest.approx(float(kl_divergence(after, before, temperature=1.0)), rel=0.2)
    assert sum(one.flipped for one in found.flips) == round((1 - found.top1_agreement) * 64)


def test_the_percentile_calibrator_does_not_mind_an_outlier() -> None:
    # Given calibration images of which one pixel is far brighter than all others
    candidate = residual()
    images = images_for(candidate, 256)
    pixels = images.normalized(images.pixels)
    pixels[0, 0, 0, 0] = 1000.0
    context = Context(calibration=replace(images, pixels=pixels))
    # When the ranges are measured both ways
    scales = {
        calibrator: apply(residual(), QuantizeStatic.model_validate({"calibrator": calibrator}), context)
        .plan.activations["image"]
        .scale
        for calibrator in ("minmax", "percentile")
    }
    # Then only the range of all values has the outlier in it
    assert scales["minmax"] > 1000 / 256
    assert scales["percentile"] < 0.1


def test_the_same_step_gives_the_same_plan() -> None:
    # Given the same network and images twice, of which some are drawn
    params = QuantizeStatic(samples=16)
    # When both are quantized
    first, second = (apply(residual(), params, replace(with_images(residual(), 64), seed=3)) for _ in range(2))
    # Then the plans are equal, and another seed draws other images
    assert first.plan.document() == second.plan.document()
    other = apply(residual(), params, replace(with_images(residual(), 64), seed=4))
    assert other.plan.document() != first.plan.document()


def test_two_steps_share_the_layers_between_them(tmp_path: Path) -> None:
    # Given a network whose classifier quantizes its input as it comes
    candidate = quantize_dynamic(residual(), QuantizeDynamic(include=("head",)), Context())
    # When another step wants that layer too, it is refused by name
    with pytest.raises(AlreadyQuantized, match="head") as refused:
        apply(candidate, QuantizeStatic(), with_images(candidate))
    assert refused.value.layer == "head"
    # And when it leaves the layer out, both live in one file
    candidate = apply(candidate, QuantizeStatic(exclude=("head",)), with_images(candidate))
    path = export(candidate, tmp_path / "model.onnx")
    x = inputs_for(candidate)
    assert candidate.plan.dynamic == {"head.weight"}
    assert int8_macs_fraction(path) == 1.0
    assert _distance(answers(simulated(candidate), x), onnx_answers(path, x)) < 1e-3


def test_what_never_changes_is_said() -> None:
    # Given images that are all the same
    candidate = residual()
    images = images_for(candidate, 40)
    same = replace(images, pixels=images.pixels[:1].expand_as(images.pixels))
    # When they shall calibrate a network, then they are refused
    with pytest.raises(InvalidDataset, match="the same"):
        apply(candidate, QuantizeStatic(), Context(calibration=same))
    # And where a layer gives one number for all images, and has channels without a weight, both are said by name
    told = Told()
    with torch.no_grad():
        candidate.module.stem[1].weight.zero_()
        candidate.module.stem[1].bias.fill_(-1)
        candidate.module.project[0].weight[2:4] = 0
    apply(candidate, QuantizeStatic(), told.context(with_images(candidate)))
    assert "stem.2/relu" in told.notices["constant_activations"]
    assert "project.0 (2)" in told.notices["empty_channels"]


def test_few_images_are_said_to_be_few() -> None:
    # Given eight images
    told = Told()
    # When they calibrate a network
    apply(residual(), QuantizeStatic(), told.context(with_images(residual(), 8)))
    # Then the step warns of them
    assert "8 images" in told.notices["few_calibration_images"]


class _Upsampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 4, 2, stride=2)
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.up(x)).mean((2, 3))


def test_a_layer_without_an_integer_kernel_is_left_alone_and_named(tmp_path: Path) -> None:
    # Given a network with a transposed convolution
    candidate, told = candidate_of(_Upsampling()), Told()
    # When it is quantized
    candidate = apply(candidate, QuantizeStatic(), told.context(with_images(candidate)))
    # Then the other layer is, and the warning names the one that is not
    assert candidate.plan.layers == {"conv"}
    assert "up" in told.notices["layers_left_alone"]
    x = inputs_for(candidate)
    found = onnx_answers(export(candidate, tmp_path / "model.onnx"), x)
    assert _distance(answers(simulated(candidate), x), found) < 0.02


def _broken(candidate: Candidate) -> Candidate:
    with torch.no_grad():
        candidate.module.stem[1].bias[0] = float("inf")
    return candidate


def test_what_cannot_be_quantized_is_refused_by_name() -> None:
    # Given patterns that mean nothing, no images, activations that overflow, a network without a layer
    context = with_images(residual())
    with pytest.raises(NoLayerMatches, match="stem"):
        preflight(residual(), QuantizeStatic(include=("steem.*",)))
    with pytest.raises(NoLayerMatches, match="stem"):
        apply(residual(), QuantizeStatic(include=("steem.*",)), context)
    with pytest.raises(MissingData, match="images"):
        apply(residual(), QuantizeStatic(), Context())
    with pytest.raises(UnfitModel, match=r"stem\.\d") as blamed:
        apply(_broken(residual()), QuantizeStatic(), context)
    assert blamed.value.layer is not None
    hollow = candidate_of(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()))
    with pytest.raises(NothingToQuantize):
        preflight(hollow, QuantizeStatic())
    with pytest.raises(NothingToQuantize):
        apply(hollow, QuantizeStatic(), with_images(hollow))


@pytest.mark.parametrize("step", [1e-8, 1e8])
def test_an_average_whose_steps_are_unlike_those_of_the_averaged_runs_too(step: float, tmp_path: Path) -> None:
    # Given a network in INT8 whose average hardly moves, or moves in steps that it never takes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    candidate = candidate_of(module)
    made = apply(candidate, QuantizeStatic(), with_images(candidate, 32))
    site = next(site for site in made.plan.activations if "avg_pool" in site)
    unlike = made.plan.activations[site].model_copy(update={"scale": step})
    made = replace(made, plan=replace(made.plan, activations={**made.plan.activations, site: unlike}))
    # When it is exported / Then the runtime takes it, and answers as the simulation
    x = inputs_for(made, 4)
    assert torch.allclose(
        onnx_answers(export(made, tmp_path / "model.onnx"), x), answers(simulated(made), x), atol=1e-3
    )


def test_what_layers_share_has_its_codes_once_in_plan_report_and_file(tmp_path: Path) -> None:
    # Given a network with weights that several layers share
    candidate, told = shared(), Told()
    # When it is quantized and written
    made = apply(candidate, QuantizeStatic(), told.context(with_images(candidate)))
    files.write(made, tmp_path)
    # Then the plan knows each weight by the name that reports, masks and files have for it
    assert made.plan.weights.keys() == {"stem.weight", "once.weight", "one.weight", "head.weight"}
    # And no layer is said to be float
    assert "layers_left_alone" not in told.notices
    reports = layer_reports(made.module, count_macs(made.module, made.input_shape), made.plan)
    assert {report.name: report.bits for report in reports} == dict.fromkeys(
        ("stem", "once", "one", "other", "head"), weight_bits()
    )
    # And no float of theirs is in the file
    assert (tmp_path / "model.safetensors").stat().st_size < sum(p.numel() for p in candidate.module.parameters()) * 2


def test_answers_that_are_no_numbers_are_refused_by_name() -> None:
    # Given a network whose last layer alone gives what float32 cannot hold: it is a float, and has no range
    candidate = residual()
    candidate.module.head.weight.data.fill_(1e38)
    # When it is quantized / Then that is said
    with pytest.raises(UnfitModel, match="at the output are not finite"):
        apply(candidate, QuantizeStatic(), with_images(candidate))
