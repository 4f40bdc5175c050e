"""Factors are exact at full rank, lose what theory says below it, and lose less of the output where it is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.curvature.moments import Moments, gathered
from compressor.factorization.building import factors, put
from compressor.factorization.layer import Known
from compressor.factorization.proposals import Proposal, of_all_ranks, of_rank, steps
from compressor.factorization.schemes import SCHEMES, Ranks
from compressor.factorization.survey import Layer
from compressor.models.parts import told
from contract.methods.factorize import Decomposition

every_scheme = pytest.mark.parametrize("scheme", Decomposition)


def convolution(seed: int = 0, **options: int) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(12, 16, 3, padding=1, **options)  # type: ignore[arg-type]


def moments(seed: int = 1) -> Moments:
    """Of an input whose few strong channels look alike from pixel to pixel."""
    random = torch.Generator().manual_seed(seed)
    few = torch.randn(12 * 9, 20, generator=random)
    covariance = few @ few.T + 0.05 * torch.eye(12 * 9)
    return Moments(torch.randn(12 * 9, generator=random).double(), covariance)


def halves(scheme: Decomposition) -> Ranks:
    return tuple(most // 2 for most in SCHEMES[scheme].full_ranks((16, 12, 3, 3)))


def error(known: Known, scheme: Decomposition, ranks: Ranks) -> Tensor:
    """What is lost of the weight."""
    made = SCHEMES[scheme]
    return known.weight - made.composed(made.factors(known, ranks))


@every_scheme
def test_at_full_rank_nothing_is_lost(scheme: Decomposition) -> None:
    # Given a convolution / When it is factorized with the full rank
    known = Known.of(convolution(), None)
    full = SCHEMES[scheme].full_ranks(known.weight.shape)
    lost = error(known, scheme, full)
    # Then the factors do what it did
    assert lost.abs().max() < 1e-5 * known.weight.abs().max()
    # And where the input is known, to the digits that its moments have
    seeing = Known.of(convolution(), moments())
    assert seeing.kept(seeing.weight - error(seeing, scheme, full)) > 1 - 1e-6


@pytest.mark.parametrize("rank", [1, 5, 11])
def test_svd_and_spatial_lose_the_singular_values_left_out(rank: int) -> None:
    # Given a convolution of which nothing but the weight is known, as a matrix for each of the two
    known = Known.of(convolution(), None)
    matrices = {
        Decomposition.SVD: known.weight.flatten(1),
        Decomposition.SPATIAL: known.weight.permute(1, 2, 0, 3).reshape(12 * 3, 16 * 3),
    }
    for scheme, matrix in matrices.items():
        # When it is factorized
        lost = error(known, scheme, (rank,)).square().sum()
        # Then as much is lost as Eckart and Young say, and that was known before
        left_out = torch.linalg.svdvals(matrix)[rank:].square().sum()
        assert torch.isclose(lost, left_out, rtol=1e-6)
        (kept,) = SCHEMES[scheme].kept(known, [(rank,)])
        assert kept == pytest.approx(1 - float(left_out / matrix.square().sum()))


def test_what_is_lost_of_the_output_are_its_smallest_variances() -> None:
    # Given moments of the input / When the convolution becomes one with five channels and a 1 x 1
    known = Known.of(convolution(), moments())
    assert known.inputs is not None
    lost = error(known, Decomposition.SVD, (5,)).flatten(1)
    # Then the output's principal components but five are lost
    flat, inputs = known.flat, known.inputs.double()
    left_out = torch.linalg.eigvalsh(flat @ inputs @ flat.T)[:-5].sum()
    assert torch.isclose((lost @ inputs * lost).sum(), left_out, rtol=1e-4)


@every_scheme
def test_moments_of_the_input_let_the_output_lose_less(scheme: Decomposition) -> None:
    # Given a convolution of which the input is known, and the same without
    known, unknown = (Known.of(convolution(), seen) for seen in (moments(), None))
    # When both are factorized with half of the full rank
    made = SCHEMES[scheme]
    blind, seeing = (known.kept(made.composed(made.factors(k, halves(scheme)))) for k in (unknown, known))
    # Then clearly more of the output is kept, and at least what was promised
    assert 1 - seeing < 0.5 * (1 - blind)
    assert seeing >= made.kept(known, [halves(scheme)])[0] - 1e-3


def stakes_of(outputs: int) -> Tensor:
    """A few directions of the output count a hundred times as much as the rest."""
    few = torch.randn(outputs, 3, generator=torch.Generator().manual_seed(2))
    return few @ few.T + 0.01 * torch.eye(outputs)


def cost_of(known: Known, stakes: Tensor, lost: Tensor) -> float:
    """Half of tr(G D C D^T)."""
    assert known.inputs is not None
    d = lost.flatten(1)
    return 0.5 * float((stakes.double() @ d @ known.inputs.double() * d).sum())


@every_scheme
def test_what_the_loss_makes_of_errors_is_minded(scheme: Decomposition) -> None:
    # Given a convolution of which it is known what errors cost, and the same without
    layer, stakes = convolution(), stakes_of(16)
    minding, known = Known.of(layer, moments(), stakes), Known.of(layer, moments())
    # When both get factors with half of the full rank
    part = told(layer)
    assert part is not None
    asked = Layer(layer, part, ((1, 12, 8, 8),))
    lost, promised = [], []
    for each in (minding, known):
        (proposal,) = of_rank(asked, each, scheme, 1, rank=0.2)
        made = factors(layer, each, proposal)
        lost.append(cost_of(known, stakes, known.weight - SCHEMES[scheme].composed(made.weights)))
        promised.append(proposal.loss)
    # Then what is lost costs clearly less, and what was promised at most
    assert lost[0] < 0.75 * lost[1]
    assert lost[0] < 1.01 * promised[0]
    # And all of the output costs what theory says
    assert minding.at_stake == pytest.approx(cost_of(known, stakes, known.weight), rel=1e-4)


@torch.no_grad()
def test_layers_that_see_too_much_at_once_are_told_by_what_they_give_out() -> None:
    # Given a linear layer with more inputs than products can be kept of, most of which say the same
    torch.manual_seed(0)
    layer, loud = nn.Linear(7000, 12), torch.randn(3, 7000)
    x = torch.randn(600, 3) @ loud + 0.1 * torch.randn(600, 7000) + torch.linspace(-1, 1, 7000)
    seen = gathered(nn.Sequential(layer), {"0": layer}, x.split(200), seed=0)["0"].moments()
    for stakes in (None, stakes_of(12)):
        # When it gets two factors, by what errors cost and without
        known = Known.of(layer, seen, stakes)
        (proposal,) = of_rank(Layer(layer, told(layer), ((1, 7000),)), known, "auto", 1, rank=4)  # type: ignore[arg-type]
        network = nn.Sequential(layer)
        put(network, {"0": proposal}, {"0": factors(layer, known, proposal)})
        # Then its outputs are nearly what they were, and their means just that
        error = network(x) - layer(x)
        assert float(error.square().mean()) < 0.01 * float(layer(x).var(0).mean())
        assert float(error.mean(0).abs().max()) < 1e-3
        assert known.at_stake == (
            1.0 if stakes is None else pytest.approx(0.5 * float((stakes * torch.cov(layer(x).T)).sum()), rel=0.1)
        )


@every_scheme
def test_improving_them_is_worth_the_rounds(scheme: Decomposition) -> None:
    # Given the weight of a convolution / When it is factorized
    known, made = Known.of(convolution(), None), SCHEMES[scheme]
    reached = known.kept(made.composed(made.factors(known, halves(scheme))))
    # Then at least as much is kept as was promised; more of it where rounds improve what they begin with
    (promised,) = made.kept(known, [halves(scheme)])
    improved = scheme in (Decomposition.TUCKER, Decomposition.CP)
    assert reached >= promised + (1e-3 if improved else -1e-9)


@every_scheme
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2, "bias": False}], ids=str)
def test_layers_in_its_place_compute_what_the_composed_weight_does(
    scheme: Decomposition, options: dict[str, int]
) -> None:
    # Given a convolution with a stride or gaps, in a network
    layer = convolution(**options)
    part = told(layer)
    assert part is not None
    known = Known.of(layer, moments())
    # When factors of half the rank stand in its place
    (proposal,) = of_rank(Layer(layer, part, ((1, 12, 8, 8),)), known, scheme, 1, rank=0.2)  # type: ignore[arg-type]
    made = factors(layer, known, proposal)
    network = nn.Sequential(layer)
    put(network, {"0": proposal}, {"0": made})
    # Then they compute what one convolution with their product does
    x = torch.randn(2, 12, 8, 8)
    weight = SCHEMES[scheme].composed(made.weights).float()
    assert made.bias is not None
    expected = F.conv2d(x, weight, made.bias.float(), layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]
    assert torch.allclose(network(x), expected, atol=1e-4)


def test_the_bias_makes_up_for_the_mean_of_what_is_lost() -> None:
    # Given a linear layer and inputs far from zero
    torch.manual_seed(0)
    layer, x = nn.Linear(10, 8), torch.randn(4000, 10) + torch.linspace(-3, 3, 10)
    seen = Moments(x.mean(0).double(), torch.cov(x.T))
    # When it gets two factors of low rank
    known = Known.of(layer, seen)
    (proposal,) = of_rank(Layer(layer, told(layer), ((1, 10),)), known, "auto", 1, rank=0.3)  # type: ignore[arg-type]
    network = nn.Sequential(layer)
    put(network, {"0": proposal}, {"0": factors(layer, known, proposal)})
    # Then its outputs have the mean that they had
    assert torch.allclose(network(x).mean(0), layer(x).mean(0), atol=1e-4)


def test_only_what_is_cheaper_is_proposed() -> None:
    # Given a convolution / When all is proposed that can be made of it
    layer = convolution()
    known = Known.of(layer, None)
    proposals = of_all_ranks(Layer(layer, told(layer), ((1, 12, 8, 8),)), known, "auto", 4)  # type: ignore[arg-type]
    # Then all three schemes are among it, ranks are multiples or small powers of two, and all cost less
    assert {p.scheme for p in proposals} == {Decomposition.SVD, Decomposition.SPATIAL, Decomposition.TUCKER}
    assert all(rank % 4 == 0 or rank in (1, 2) for p in proposals for rank in p.ranks)
    assert all(p.cost.macs < 12 * 16 * 9 * 64 and p.cost.parameters < 12 * 16 * 9 + 16 for p in proposals)
    # And what costs more loses less within a scheme with one rank
    one = [p for p in proposals if p.scheme is Decomposition.SPATIAL]
    assert [p.kept for p in one] == sorted(p.kept for p in one)
    assert isinstance(one[0], Proposal)


def test_steps_are_multiples_and_below_them_powers_of_two() -> None:
    assert steps(20, 8) == [1, 2, 4, 8, 16]
    assert steps(6, 8) == [1, 2, 4]
    assert steps(3, 1) == [1, 2, 3]
