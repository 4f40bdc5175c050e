"""Weights in a few bits: the file is as small as said, and answers as measured."""

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export, opset
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.methods import prune_weights, quantize_static, quantize_weights
from compressor.models import files
from compressor.models.torchvision_ops import torchvision
from compressor.quantization.simulate import deployed, simulated
from contract.failures import AlreadyQuantized, MissingData, NoLayerMatches, UnfitModel
from contract.methods.low_bit import QuantizeWeights, Scheme
from contract.methods.prune import PruneWeights
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import Recurrent, answers, candidate_of, inputs_for, named, onnx_answers, shared
from tests.unit.compressor.quantization.steps import Told, with_images
from tests.unit.compressor.small_jobs import images as tints
from tests.unit.compressor.small_jobs import trained_candidate

#: What the README promises: a row for each number of bits.
BITS = (1, 2, 3, 4, 6, 8)
HOW: list[dict[str, Any]] = [
    *({"bits": bits} for bits in BITS),
    {"bits": 2, "scheme": "ternary"},
    {"bits": 4, "scheme": "power_of_two"},
    {"bits": 5, "scheme": "codebook"},
    {"bits": 3, "scheme": "asymmetric", "group_size": 50},
    {"bits": 4, "group_size": 32, "clipping": "least_squares"},
]


def coded(candidate: Candidate, context: Context | None = None, **params: object) -> Candidate:
    return quantize_weights.apply(candidate, QuantizeWeights.model_validate(params), context or Context())


@pytest.mark.parametrize("how", HOW, ids=json.dumps)
def test_the_file_answers_as_the_network_and_is_as_small_as_said(how: dict[str, Any], tmp_path: Path) -> None:
    # Given a network / When its weights are coded and it is written
    told = Told()
    made = coded(trained_candidate(), told.context(), all_layers=True, **how)
    files.write(made, tmp_path)
    # Then what is read back is the same, bit for bit
    x = inputs_for(made, 4)
    again, wanted = files.read(tmp_path), answers(simulated(made), x)
    assert torch.equal(answers(simulated(again), x), wanted)
    assert torch.allclose(answers(deployed(made), x), wanted, atol=1e-5)
    # And the weights take what theory says, or less, within 2 % and 16 KiB for names and layouts
    rest = sum(t.nbytes for n, t in made.module.state_dict().items() if n not in made.plan.weights)
    theory = rest + sum(weight.size_bits for weight in made.plan.levels.values()) / 8
    assert (tmp_path / files.WEIGHTS).stat().st_size <= 1.02 * theory + 16 * 1024
    effective = told.records["effective_bits"]
    assert isinstance(effective, float)
    assert how["bits"] * 0.8 <= effective <= how["bits"] + (2.5 if "group_size" in how else 1.0)


@pytest.mark.parametrize("how", [HOW[0], HOW[8], HOW[9], HOW[10]], ids=json.dumps)
def test_onnx_runtime_computes_the_weights_from_their_codes(how: dict[str, Any], tmp_path: Path) -> None:
    # Given codes of two levels, a codebook, zero points and groups / When they are exported / Then the file computes so
    made = coded(trained_candidate(), all_layers=True, **how)
    x = inputs_for(made, 4)
    wanted, path = answers(made.module, x), export(made, tmp_path / "model.onnx")
    assert torch.allclose(onnx_answers(path, x), wanted, atol=1e-3 * float(wanted.abs().max()))


def test_fewer_bits_are_a_smaller_file_and_a_larger_error(tmp_path: Path) -> None:
    # Given a network at 8, 6, 4, 3 and 2 bits / When each is written
    sizes, errors = [], []
    x = inputs_for(trained_candidate(), 16)
    wanted = answers(trained_candidate().module, x)
    for bits in (8, 6, 4, 3):
        made = coded(trained_candidate(), bits=bits)
        files.write(made, tmp_path / str(bits))
        sizes.append((tmp_path / str(bits) / files.WEIGHTS).stat().st_size)
        errors.append(float((answers(made.module, x) - wanted).square().mean()))
    # Then each is smaller than the one before, and farther from the original
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_onnx_holds_no_float_weight_that_has_codes(tmp_path: Path) -> None:
    # Given a network whose weights have four bits, and others of five / When they are exported
    made = {bits: coded(trained_candidate(), bits=bits, all_layers=True) for bits in (4, 5)}
    paths = {bits: export(one, tmp_path / f"{bits}.onnx") for bits, one in made.items()}
    files_of = {bits: onnx.load(path) for bits, path in paths.items()}
    # Then codes lie in the narrowest type there is, and no large tensor is of floats
    types = {
        bits: {t.data_type for t in model.graph.initializer if math.prod(t.dims) > 300}
        for bits, model in files_of.items()
    }
    assert types == {4: {onnx.TensorProto.UINT4}, 5: {onnx.TensorProto.UINT8}}
    # And the narrower one needs newer operators
    assert {bits: opset(path) for bits, path in paths.items()} == {4: 21, 5: 20}


def test_the_first_and_the_last_layer_get_eight_bits_unless_all_are_meant() -> None:
    # Given a network whose classifier is not the last of its modules by name / When two bits are asked for
    made, all_of_it = (
        coded(named("resnet18", size=32), bits=2),
        coded(named("resnet18", size=32), bits=2, all_layers=True),
    )
    # Then the ends have eight, symmetric ones
    bits = {name: (w.bits, w.scheme) for name, w in made.plan.levels.items()}
    assert bits["conv1.weight"] == bits["fc.weight"] == (8, Scheme.SYMMETRIC)
    assert {found for name, found in bits.items() if name.startswith("layer")} == {(2, Scheme.FOUR_LEVEL)}
    assert {w.bits for w in all_of_it.plan.levels.values()} == {2}


def test_the_ends_are_those_of_the_network_whatever_is_chosen() -> None:
    # Given four layers, of which the inner two and the last are chosen / When two bits are asked for
    layers = (nn.Flatten(), nn.Linear(192, 32), nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 4))
    made = coded(candidate_of(nn.Sequential(*layers)), bits=2, include=("2", "3", "4"))
    # Then only the last has eight
    assert {name: w.bits for name, w in made.plan.levels.items()} == {"2.weight": 2, "3.weight": 2, "4.weight": 8}


def test_a_transformer_ends_with_its_head() -> None:
    # Given a transformer whose last attention computes its `out_proj` itself / When two bits are asked for
    module = torchvision().models.VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
    )
    made = coded(candidate_of(module), bits=2)
    # Then the head has eight, and the projection two
    bits = {name: weight.bits for name, weight in made.plan.levels.items()}
    assert {name for name, found in bits.items() if found == 8} == {"conv_proj.weight", "heads.head.weight"}
    assert bits["encoder.layers.encoder_layer_0.self_attention.out_proj.weight"] == 2


def test_layers_get_bits_of_their_own() -> None:
    # Given bits by pattern / When a network is coded
    made = coded(named("resnet18", size=32), bits=4, bits_by_layer={"layer1.*": 8, "layer4.1": 1, "fc": 3})
    bits = {name.removesuffix(".weight"): w.bits for name, w in made.plan.levels.items()}
    # Then the first pattern that means a layer counts, for the last one too
    assert (bits["conv1"], bits["layer1.0.conv1"], bits["layer2.0.conv1"], bits["layer4.1.conv2"], bits["fc"]) == (
        8, 8, 4, 1, 3,
    )  # fmt: skip


def test_a_layer_with_bits_of_its_own_must_be_there() -> None:
    # Given a misspelt layer with bits of its own / When the step is checked
    params = QuantizeWeights(bits_by_layer={"fc": 8, "layer1.0.cnv1": 2})
    with pytest.raises(NoLayerMatches, match=r"matches layer1\.0\.cnv1") as failure:
        quantize_weights.preflight(named("resnet18", size=32), params)
    # Then the failure points to where it stands
    assert failure.value.errors[0].pointer == "/bits_by_layer"


def test_what_is_left_out_stays_float() -> None:
    # Given patterns / When a network is coded / Then only what they mean has codes
    before = trained_candidate().module.state_dict()
    made = coded(trained_candidate(), include=("layer1", "layer2"), exclude=("layer1.0.conv1",))
    assert {name.split(".")[0] for name in made.plan.weights} == {"layer1", "layer2"}
    assert not any(name.startswith("layer1.0.conv1") for name in made.plan.weights)
    assert torch.equal(made.module.state_dict()["fc.weight"], before["fc.weight"])


def test_rounding_with_data_answers_more_like_the_original() -> None:
    # Given a network and images / When it is coded in three bits, each weight alone and then with GPTQ
    context = Context(calibration=tints(64, seed=3))
    x = tints(64, seed=1).normalized(tints(64, seed=1).pixels)
    wanted = answers(trained_candidate().module, x)
    errors = [
        float(
            (
                answers(coded(trained_candidate(), context, bits=3, rounding=how, recalibrate=False).module, x) - wanted
            ).norm()
        )
        for how in ("nearest", "gptq")
    ]
    # Then GPTQ is nearer
    assert errors[1] < 0.8 * errors[0]


def test_gptq_leaves_the_statistics_to_which_it_has_fitted_the_layers() -> None:
    # Given a network with batch normalization / When it is rounded by GPTQ, and to the nearest
    before = trained_candidate().module.state_dict()
    names = [name for name in before if "running" in name]
    made = {}
    for how in ("gptq", "nearest"):
        candidate = trained_candidate()
        made[how] = coded(candidate, with_images(candidate, 16), bits=3, rounding=how).module.state_dict()
    # Then its statistics stay, and follow what has changed
    assert names
    assert all(torch.equal(before[name], made["gptq"][name]) for name in names)
    assert not any(torch.equal(before[name], made["nearest"][name]) for name in names)


def test_a_target_is_met_by_giving_bits_where_they_matter() -> None:
    # Given a network and images / When all layers together shall have four and a half bits
    told, candidate = Told(), trained_candidate()
    context = told.context(Context(calibration=tints(64, seed=3)))
    made = coded(candidate, context, target_bits=4.5)
    # Then they have them, not all the same, and the report says so
    count = sum(w.codes.numel() for w in made.plan.levels.values())
    found = sum(w.size_bits for w in made.plan.levels.values()) / count
    assert 4.2 <= found <= 4.5
    assert told.records["effective_bits"] == pytest.approx(found, abs=1e-4)
    assert len({w.bits for w in made.plan.levels.values()}) > 1
    # And the answers are much nearer than with four bits everywhere
    x = tints(64, seed=1).normalized(tints(64, seed=1).pixels)
    wanted = answers(trained_candidate().module, x)
    even = coded(trained_candidate(), context, bits=4)
    nearer = [float((answers(one.module, x) - wanted).square().mean()) for one in (made, even)]
    assert nearer[0] < 0.1 * nearer[1]


def test_a_target_that_no_allotment_meets_is_refused_with_the_least_there_is() -> None:
    # Given a target below what scales and the ends alone take / When it is asked for / Then the least is named
    candidate = trained_candidate()
    with pytest.raises(UnfitModel, match=r"at least \d\.\d\d bits") as caught:
        coded(candidate, with_images(candidate, 16), target_bits=1.0, samples=16)
    assert caught.value.errors[0].pointer == "/target_bits"


def test_pruned_weights_stay_pruned_in_every_scheme(tmp_path: Path) -> None:
    # Given a pruned network
    for how in (HOW[0], HOW[2], HOW[8], HOW[9]):
        pruned = prune_weights.apply(trained_candidate(), PruneWeights(amount=0.8), Context())
        # When it is coded and written
        made = coded(pruned, **how)
        files.write(made, tmp_path / json.dumps(how))
        again = files.read(tmp_path / json.dumps(how))
        # Then what was zero is zero, in the rebuilt network too
        for name, mask in pruned.masks.items():
            assert not again.module.get_parameter(name)[~mask].any()
            assert torch.equal(again.masks[name], mask)


def test_recurrent_layers_are_coded_too(tmp_path: Path) -> None:
    # Given a network with an LSTM / When it is coded in four bits with groups
    candidate = candidate_of(Recurrent(nn.LSTM(24, 16, batch_first=True)))
    made = coded(candidate, bits=4, group_size=16, all_layers=True)
    # Then its file answers as it does
    x = inputs_for(made, 4)
    path = export(made, tmp_path / "model.onnx")
    assert any("weight_hh" in name for name in made.plan.weights)
    assert torch.allclose(onnx_answers(path, x), answers(made.module, x), atol=1e-4)


def test_layers_too_small_for_their_scales_stay_float() -> None:
    # Given a network with a tiny layer beside a large one
    with torch.random.fork_rng():
        module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(128, 64), nn.Linear(64, 4))
    told = Told()
    # When codebooks of 16 levels are asked for
    made = coded(candidate_of(module), told.context(), bits=4, scheme="codebook", all_layers=True)
    # Then the six weights of the tiny one have none, and the step says so
    assert set(made.plan.weights) == {"2.weight", "3.weight"}
    assert told.records["layers_left_alone"] == ["0"]
    assert "0" in told.notices["layers_left_alone"]


class _Blind(nn.Module):
    """Layers of which nobody knows what they see, and one that sees too much; the last is like others."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 98, 3, padding="same")
        self.attention = nn.MultiheadAttention(98, 2, batch_first=True)
        self.wide = nn.Linear(98 * 64, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.same(x).flatten(2).transpose(1, 2)
        return self.head(self.wide(self.attention(tokens, tokens, tokens)[0].flatten(1)))


def test_layers_that_gptq_cannot_round_are_told_with_the_reason() -> None:
    # Given layers whose inputs cannot be unfolded, are seen by no hook, or are too many numbers at once
    candidate, told = candidate_of(_Blind()), Told()
    params = {"bits": 4, "rounding": "gptq", "all_layers": True}
    # When GPTQ is asked for
    made = coded(candidate, told.context(with_images(candidate, 8)), **params)
    # Then they have codes too, the nearest ones, and the step says which and why
    assert len(made.plan.levels) == 5
    assert told.records["rounded_to_nearest"] == {
        "same": "what it sees cannot be unfolded",
        "attention": "what it sees cannot be unfolded",
        "attention.out_proj": "the network does not call it",
        "wide": "it sees 6,272 numbers at once",
    }
    assert "attention.out_proj (the network does not call it)" in told.notices["rounded_to_nearest"]
    # And nothing of it where each weight is to be rounded by itself
    plain = Told()
    coded(candidate_of(_Blind()), plain.context(), bits=4)
    assert "rounded_to_nearest" not in plain.records


@pytest.mark.parametrize("params", [{}, {"target_bits": 4}, {"rounding": "gptq"}])
def test_infinite_activations_are_refused_by_the_name_of_the_layer(params: dict[str, object]) -> None:
    # Given a layer that overflows, in front of one / When weights are coded where there are images
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 4))
    module.get_parameter("1.weight").data.fill_(3e38)
    candidate = candidate_of(module)
    # Then the failure names the layer that is given what is no number
    with pytest.raises(UnfitModel, match="The activations at 3 are not finite on the calibration images") as caught:
        coded(candidate, with_images(candidate, 16), **params)
    assert caught.value.layer == "3"


def test_infinite_activations_that_no_answer_shows_are_refused_by_gptq() -> None:
    # Given a layer that overflows, and what clamps it / When weights are rounded with what layers see
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    module.get_parameter("1.weight").data.fill_(3e38)
    module.get_parameter("2.weight").data.abs_()
    candidate = candidate_of(module)
    # Then the failure names the layer
    with pytest.raises(UnfitModel, match="The activations at 2 are not finite on the calibration images"):
        coded(candidate, with_images(candidate, 16), rounding="gptq")


def test_integers_that_are_there_go_into_a_static_plan() -> None:
    # Given a network of which one stage has codes of four bits that integer kernels can multiply
    candidate = named("resnet18", size=32)
    context = with_images(candidate, 32)
    made = coded(candidate, context, include=("layer1",), all_layers=True)
    # When the rest is quantized with its activations
    made = quantize_static.apply(made, QuantizeStatic(exclude=("layer1",)), context)
    # Then the stage runs in integers too, with the codes that it has
    assert "layer1.0.conv1.weight" in made.plan.static
    assert made.plan.bits("layer1.0.conv1.weight") == 4
    assert answers(simulated(made), inputs_for(made, 4)).isfinite().all()


def test_four_bit_weights_run_in_integer_kernels_behind_quantize_static(tmp_path: Path) -> None:
    # Given a network all of whose weights have four bits / When activations are quantized too
    context = Context(calibration=tints(64, seed=3))
    stored = coded(trained_candidate(), context, all_layers=True)
    made = quantize_static.apply(stored, QuantizeStatic(correct_bias=False), context)
    # Then everything is multiplied in integers, with the codes that were there
    path = export(made, tmp_path / "model.onnx")
    assert int8_macs_fraction(path) == 1.0
    assert made.plan.static == stored.plan.weights.keys()
    assert {w.bits for w in made.plan.weights.values()} == {4}
    x = inputs_for(made, 8)
    assert torch.allclose(onnx_answers(path, x), answers(simulated(made), x), atol=1e-3)
    # And it can be written and rebuilt
    files.write(made, tmp_path / "files")
    assert torch.equal(answers(files.load_model(tmp_path / "files"), x), answers(simulated(made), x))


def test_codes_that_no_kernel_multiplies_stay_beside_integers() -> None:
    # Given codebooks in one stage / When the network is quantized with its activations / Then the stage stays as it is
    context, told = Context(calibration=tints(64, seed=3)), Told()
    stored = coded(trained_candidate(), context, bits=5, scheme="codebook", include=("layer2",), all_layers=True)
    made = quantize_static.apply(stored, QuantizeStatic(), told.context(context))
    assert not any(name.startswith("layer2") for name in made.plan.static)
    assert "layer2.0.conv1" in told.notices["layers_left_alone"]
    assert answers(simulated(made), inputs_for(made, 4)).isfinite().all()


def test_a_layer_gets_its_codes_once() -> None:
    # Given a coded network / When it is coded again / Then it is refused by name, before the work
    made = coded(trained_candidate())
    with pytest.raises(AlreadyQuantized, match=r"conv1"):
        quantize_weights.preflight(made, QuantizeWeights())


@pytest.mark.parametrize("params", [{"rounding": "gptq"}, {"target_bits": 4.0}])
def test_what_looks_at_images_says_that_it_needs_them(params: dict[str, object]) -> None:
    # Given no data / When it is asked for / Then the failure names where to put it
    with pytest.raises(MissingData, match=r"data\.calibration"):
        coded(trained_candidate(), **params)


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        ({}, "symmetric"),
        ({"bits": 2}, "four_level"),
        ({"bits": 1}, "binary"),
        ({"bits": 1, "scheme": "codebook"}, "codebook"),
    ],
)
def test_the_scheme_follows_from_the_bits(given: dict[str, object], scheme: str) -> None:
    # Given bits without a scheme, or with one / When the params are read / Then the scheme stands there
    assert QuantizeWeights.model_validate(given).scheme == scheme


@pytest.mark.parametrize(
    "given",
    [
        {"bits": 0},
        {"bits": 9},
        {"bits": 4, "scheme": "binary"},
        {"bits": 1, "scheme": "symmetric"},
        {"bits": 3, "scheme": "ternary"},
        {"scheme": "codebook", "group_size": 32},
        {"target_bits": 4, "bits_by_layer": {"fc": 8}},
        {"target_bits": 4, "scheme": "codebook"},
        {"target_bits": 4, "bits": 2},
        {"bits_by_layer": {"fc": 12}},
    ],
)
def test_what_does_not_fit_together_is_refused(given: dict[str, object]) -> None:
    # Given params that contradict each other / When they are read / Then they are refused
    with pytest.raises(ValueError, match=r"bits|group_size|scheme"):
        QuantizeWeights.model_validate(given)


def test_a_target_can_be_read_again_with_the_defaults_written_out() -> None:
    # Given a target / When its params are stored with all defaults and read again / Then they are the same
    params = QuantizeWeights(target_bits=4)
    assert QuantizeWeights.model_validate(params.model_dump(mode="json")) == params


def test_what_layers_share_keeps_its_codes_when_activations_get_theirs() -> None:
    # Given a network with weights that several layers share, and codes of four bits for them
    candidate = shared()
    context = with_images(candidate)
    made = coded(candidate, context, include=["once", "one"])
    # When the rest is quantized with the activations
    whole = quantize_static.apply(made, QuantizeStatic(), context)
    # Then each weight has its codes once, and those of four bits are as they were
    assert whole.plan.weights.keys() == {"stem.weight", "once.weight", "one.weight", "head.weight"}
    assert {whole.plan.bits(name) for name in ("once.weight", "one.weight")} == {4}


def test_a_layer_whose_weight_another_layer_names_first_is_found_by_its_own_name() -> None:
    # Given a network in which two layers share a weight / When the second of them is named
    told = Told()
    made = coded(shared(), told.context(), include=["other"])
    # Then their weight has its codes
    assert made.plan.weights.keys() == {"one.weight"}
    assert told.records["layers"] == ["other"]
