"""Layers become several of low rank: as cheap as asked for, as near as can be, and everything goes on from there."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.measure.counting import count_macs, count_parameters
from compressor.methods import factorize, fine_tune, prune_channels, prune_weights, quantize_static
from compressor.models.edits import Replace
from compressor.models.files import read, write
from compressor.quantization.simulate import simulated
from compressor.training.objectives import kl_divergence
from contract.failures import NoLayerMatches, UnfitModel
from contract.methods.factorize import Factorize
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeStatic
from contract.methods.train import FineTune
from contract.report import FactorizedLayer
from contract.value import Json
from tests.unit.compressor.networks import answers, candidate_of, onnx_answers
from tests.unit.compressor.small_jobs import images, trained_candidate


class Told:
    """What a step has said."""

    def __init__(self) -> None:
        self.details: dict[str, Json] = {}

    def context(self, *, data: bool = True) -> Context:
        seen = images(96, seed=3) if data else None
        return Context(train=seen, calibration=seen, record=self.details.__setitem__)

    @property
    def layers(self) -> dict[str, FactorizedLayer]:
        made = self.details["factorized"]
        assert isinstance(made, list)
        return {layer.name: layer for layer in map(FactorizedLayer.model_validate, made)}

    @property
    def left(self) -> dict[str, str]:
        left = self.details["layers_left_alone"]
        assert isinstance(left, dict)
        return {name: str(reason) for name, reason in left.items()}


def factorized(before: Candidate, *, told: Told | None = None, data: bool = True, **params: object) -> Candidate:
    return factorize.apply(before, Factorize.model_validate(params), (told or Told()).context(data=data))


def x_of(count: int = 64) -> Tensor:
    return next(images(count, seed=9).batches(count)).x


@pytest.mark.parametrize(("measure", "ratio"), [("macs", 0.8), ("macs", 0.5), ("parameters", 0.55)])
def test_a_ratio_of_the_whole_network_is_met(measure: str, ratio: float) -> None:
    # Given a trained network
    before, told = trained_candidate(), Told()
    macs, parameters = count_macs(before.module, before.input_shape).total, count_parameters(before.module)
    # When it shall have a part of its MACs, or of its parameters
    after = factorized(before, told=told, round_to=1, **{f"{measure}_ratio": ratio})
    # Then it has that part, no more and little less, counted again
    left = {
        "macs": count_macs(after.module, after.input_shape).total / macs,
        "parameters": count_parameters(after.module) / parameters,
    }
    assert 0.99 * ratio <= left[measure] <= ratio
    assert {"macs": told.details["macs_left"], "parameters": told.details["parameters_left"]} == left
    # And what layers save is what the whole has lost
    saved = sum(getattr(layer, measure)[0] - getattr(layer, measure)[1] for layer in told.layers.values())
    assert saved == pytest.approx({"macs": macs, "parameters": parameters}[measure] * (1 - left[measure]))


def test_looking_at_images_loses_less_of_the_answers() -> None:
    # Given a trained network and what it answers
    expected = answers(trained_candidate().module, x_of())
    lost = {}
    for aware in (True, False):
        # When half of its MACs go, with regard to what layers see and without
        after = factorized(trained_candidate(), data_aware=aware)
        lost[aware] = float((answers(after.module, x_of()) - expected).square().mean())
    # Then its answers stay much nearer to what they were
    assert lost[True] < 0.5 * lost[False]


def kl_behind(**params: object) -> float:
    """How far the answers of a trained network move when two thirds of its MACs go, in nats."""
    before = answers(trained_candidate().module, x_of())
    after = factorized(trained_candidate(), macs_ratio=0.35, **params)  # type: ignore[arg-type]
    return float(kl_divergence(answers(after.module, x_of()), before, temperature=1.0))


def test_minding_the_loss_loses_less_of_the_answers() -> None:
    # Given a trained network / When most of it goes with regard to the loss / Then its answers move less than without
    assert kl_behind(loss_aware=True) < 0.8 * kl_behind(loss_aware=False)


def test_factors_make_up_for_those_before_them() -> None:
    # Given a trained network / When most of it goes, with a fit to what layers gave / Then its answers move less
    told = Told()
    assert kl_behind(reconstruct=True, told=told) < 0.8 * kl_behind(reconstruct=False)
    # And each layer that has factors is told with the error before and after the fit
    errors = told.details["output_error"]
    assert isinstance(errors, dict)
    assert errors.keys() == told.layers.keys()
    assert all(after < before < 1 for before, after in errors.values())  # type: ignore[misc, str-unpack, union-attr]


class _Twice(nn.Module):
    """A layer that runs twice, on what differs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.head = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, padding=1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        seen = self.twice(self.twice(self.stem(x)).relu())
        answer: Tensor = self.head(seen.mean((2, 3)))
        return answer


def test_a_layer_that_runs_twice_is_not_fitted_to_what_it_gave_first() -> None:
    # Given a network with such a layer / When it gets factors / Then they are told as not fitted
    told = Told()
    factorized(candidate_of(_Twice(), size=32), told=told, rank=0.25, include=("twice",))
    assert told.details["not_reconstructed"] == ["twice"]
    assert told.details["output_error"] == {}


def test_nothing_but_the_weights_is_looked_at_without_data() -> None:
    # Given a network without images / When it is factorized / Then no layer has a bias that it had not, and it answers
    before = trained_candidate()
    biased = {name for name, _ in before.module.named_parameters() if name.endswith("bias")}
    after = factorized(before, data=False)
    new = {name for name, _ in after.module.named_parameters() if name.endswith("bias")} - biased
    assert all(name.split(".")[0] == "fc" for name in new)
    assert answers(after.module, x_of()).isfinite().all()


@pytest.mark.parametrize("scheme", ["svd", "spatial", "tucker", "cp"])
def test_energy_is_kept_in_each_layer(scheme: str, tmp_path: Path) -> None:
    # Given a trained network / When each layer shall keep most of what it gives out
    told = Told()
    after = factorized(trained_candidate(), told=told, scheme=scheme, energy=0.9, round_to=1)
    # Then each that is factorized does, and with fewer MACs than before
    assert told.layers
    for layer in told.layers.values():
        assert layer.kept >= 0.9 - 1e-3
        assert layer.macs[1] < layer.macs[0]
        assert layer.parameters[1] < layer.parameters[0]
        assert layer.scheme in (scheme, "svd")
    assert scheme in {layer.scheme for layer in told.layers.values()}
    # And it can be rebuilt from its files
    write(after, tmp_path)
    assert torch.equal(answers(read(tmp_path).module, x_of(8)), answers(after.module, x_of(8)))


def test_ranks_above_half_are_found_where_they_still_save() -> None:
    # Given a convolution whose weight has 40 of 64 channels' worth on either side
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    core, first, last = torch.randn(40, 40, 3, 3), torch.randn(64, 40), torch.randn(64, 40)
    layer.weight.data = torch.einsum("op,pqab,iq->oiab", last, core, first) / 100
    network = nn.Sequential(nn.Conv2d(3, 64, 1), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    # When nearly all of it shall be kept / Then it is, and it costs what these ranks do
    told, before = Told(), candidate_of(network.eval())
    factorized(before, told=told, data=False, scheme="tucker", energy=0.99, include=["1"])
    assert told.layers["1"].ranks == (40, 40)
    assert told.layers["1"].kept == pytest.approx(1.0, abs=1e-5)
    assert told.layers["1"].macs[1] < 0.55 * told.layers["1"].macs[0]


def test_ranks_are_parts_of_the_full_one_and_layers_may_have_their_own() -> None:
    # Given a network / When a rank is told, and another one for a stage
    told = Told()
    factorized(trained_candidate(), told=told, rank=0.25, rank_by_layer={"layer4": 0.5}, round_to=1)
    # Then that is what layers have
    for name, layer in told.layers.items():
        part = 0.5 if name.startswith("layer4") else 0.25
        assert layer.ranks == tuple(round(part * most) for most in layer.full_ranks)
    assert {name.split(".")[0] for name in told.layers} >= {"layer1", "layer4"}


class _Odd(nn.Module):
    """Layers that cannot be factorized, each for another reason, and one that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.grouped = nn.Conv2d(32, 32, 3, padding=1, groups=4)
        self.reflecting = nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect")
        self.read = nn.Linear(32, 32)
        self.idle = nn.Linear(32, 32)
        self.tied = nn.Linear(32, 32)
        self.other = nn.Linear(32, 32)
        self.other.weight = self.tied.weight
        self.attention = nn.MultiheadAttention(32, 2, batch_first=True)
        self.good = nn.Linear(32, 32)
        self.dead = nn.Linear(32, 32)
        self.dead.weight.data.zero_()
        self.tiny = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.reflecting(self.grouped(self.stem(x))).mean((2, 3))
        x = self.read(x) + nn.functional.linear(x, self.read.weight)
        x = self.other(self.tied(x)).unsqueeze(1)
        x = x + self.dead(x)
        x = self.good(self.attention(x, x, x)[0]).squeeze(1)
        return x[:, :4] + self.tiny(x)


def test_layers_that_cannot_be_factorized_are_left_alone_and_named_with_the_reason() -> None:
    # Given a network in which layers are grouped, read by others, tied, idle, or too small to gain
    told, before = Told(), candidate_of(_Odd())
    before = prune_weights.apply(before, PruneWeights(include=("stem",), recalibrate=False), Context())
    expected = answers(before.module, torch.zeros(2, 3, 32, 32)).shape
    # When it is factorized
    after = factorized(before, told=told, rank=0.25)
    # Then the rest is
    assert list(told.layers) == ["good"]
    reasons = {
        "stem": "masked", "grouped": "groups", "reflecting": "padding", "read": "other modules read",
        "idle": "does not run", "tied": "several places", "other": "several places", "attention": "MultiheadAttention",
        "attention.out_proj": "neither", "dead": "all zero", "tiny": "cheaper",
    }  # fmt: skip
    assert told.left.keys() == reasons.keys()
    assert all(reason in told.left[name] for name, reason in reasons.items())
    assert answers(after.module, torch.zeros(2, 3, 32, 32)).shape == expected


def test_a_network_in_which_nothing_can_be_factorized_is_refused_with_a_reason() -> None:
    # Given patterns that mean a depthwise layer alone / When it is asked for / Then it says why not
    with pytest.raises(UnfitModel, match=r"grouped, because its channels are in groups\."):
        factorized(candidate_of(_Odd()), include=("grouped",))


def test_a_target_out_of_reach_is_refused_with_what_can_be_reached() -> None:
    # Given a layer of a network / When it shall save more than it has / Then the failure says what is left at least
    with pytest.raises(UnfitModel, match=r"\d\.\d% is left") as caught:
        factorized(trained_candidate(), include=("layer4.0.conv2",), macs_ratio=0.5)
    assert caught.value.errors[0].pointer == "/macs_ratio"


def test_a_rank_can_be_a_number() -> None:
    # Given a rank by number for a stage, which is no multiple of round_to, and a part for the others
    told = Told()
    factorized(trained_candidate(), told=told, rank=0.25, rank_by_layer={"layer4": 20, "layer3": 10_000})
    # Then the stage's layers have it as it is, and those of which more is asked than they have stay as they are
    assert {layer.ranks for name, layer in told.layers.items() if name.startswith("layer4")} == {(20,)}
    assert not any(name.startswith("layer3") for name in told.layers)


def test_patterns_for_ranks_must_match_too() -> None:
    params = Factorize(rank=0.5, rank_by_layer={"nowhere": 0.5})
    with pytest.raises(NoLayerMatches) as failure:
        factorize.preflight(trained_candidate(), params)
    assert failure.value.errors[0].pointer == "/rank_by_layer"


def test_layers_keep_their_mode_and_whether_they_learn() -> None:
    # Given a network of which one convolution is frozen
    before = trained_candidate()
    frozen = before.module.get_submodule("layer2.0.conv2")
    frozen.requires_grad_(False)
    # When all get factors
    after = factorized(before, rank=0.25)
    # Then only that one's are frozen
    learning = {name: p.requires_grad for name, p in after.module.named_parameters()}
    assert {name for name, learns in learning.items() if not learns} == {
        name for name in learning if name.startswith("layer2.0.conv2.")
    }
    assert not any(part.training for part in after.module.modules())


def test_what_follows_works_on_the_factors(tmp_path: Path) -> None:
    # Given a network of factors
    before = factorized(trained_candidate(), macs_ratio=0.7)
    macs = count_macs(before.module, before.input_shape).total
    # When it is pruned and trained
    pruned = prune_channels.apply(before, PruneChannels(ratio=0.25), Told().context())
    trained = fine_tune.apply(pruned, FineTune(epochs=1), Told().context())
    # Then it is cheaper, and can be rebuilt; and factors can be factorized again
    assert count_macs(trained.module, trained.input_shape).total < 0.9 * macs
    again = factorized(trained, macs_ratio=0.9)
    assert len([edit for edit in again.edits if isinstance(edit, Replace)]) > len(
        [edit for edit in trained.edits if isinstance(edit, Replace)]
    )
    write(again, tmp_path)
    assert torch.equal(answers(read(tmp_path).module, x_of(8)), answers(again.module, x_of(8)))


def test_factors_run_in_integers(tmp_path: Path) -> None:
    # Given a network of factors
    before = factorized(trained_candidate(), macs_ratio=0.7)
    # When it is quantized
    after = quantize_static.apply(before, QuantizeStatic(), Told().context())
    # Then every factor has its codes, and the file answers what they mean
    replaced = [edit.module for edit in after.edits if isinstance(edit, Replace)]
    assert replaced
    assert {f"{name}.{place}.weight" for name in replaced for place in (0, 1)} <= after.plan.weights.keys()
    meant = answers(simulated(after), x_of())
    found = onnx_answers(export(after, tmp_path / "model.onnx"), x_of())
    assert (found.argmax(1) == meant.argmax(1)).float().mean() >= 0.95


class _Tokens(nn.Module):
    """Linear layers on every patch of an image, and one on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.each, self.mean = nn.Conv2d(3, 32, 8, 8), nn.Linear(32, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        tokens = self.each(self.patches(x).flatten(2).transpose(1, 2)).relu()
        found: Tensor = self.head(self.mean(tokens.mean(1)).relu())
        return found


@pytest.mark.parametrize("bits", [8, 4])
def test_factors_of_linear_layers_run_in_integers_one_behind_the_other(bits: int, tmp_path: Path) -> None:
    # Given a network whose linear layers are two each, with nothing in between
    torch.manual_seed(0)
    before = factorized(candidate_of(_Tokens(), size=32), rank=0.25, include=("each", "mean"))
    # When it is quantized
    after = quantize_static.apply(before, QuantizeStatic(activation_bits=bits), Told().context())
    # Then what one gives the other has a code, and the file answers what is meant, near to what the floats answer
    assert {"each.0/linear", "mean.0/linear"} <= after.plan.activations.keys()
    meant, floats = answers(simulated(after), x_of()), answers(before.module, x_of())
    assert torch.allclose(onnx_answers(export(after, tmp_path / "model.onnx"), x_of()), meant, atol=1e-4)
    assert float((meant - floats).square().mean()) < 0.2 * float(floats.var())
