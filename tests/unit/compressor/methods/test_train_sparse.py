"""What a penalty has driven to zero can be cut without a loss."""

import copy

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.accuracy import answers
from compressor.methods import prune_channels, prune_weights, train_sparse
from compressor.pruning.slices import channel_slices
from compressor.training.normalization import normalizations
from contract.failures import UnfitModel
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.sparse import TrainSparse
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, trained

DATA = images(96, seed=0)
QUICK: dict[str, object] = {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "schedule": "constant"}


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    """A network that knows four tints."""
    return trained()


def driven(module: nn.Module, notes: dict[str, Json] | None = None, **params: object) -> Candidate:
    candidate = Candidate(
        module=copy.deepcopy(module), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4
    )
    context = Context(train=DATA, record=(notes if notes is not None else {}).__setitem__)
    return train_sparse.apply(candidate, TrainSparse.model_validate(QUICK | params), context)


def accuracy(module: nn.Module) -> float:
    return float((answers(module, DATA).argmax(1) == DATA.labels).float().mean())


def test_weights_are_driven_to_zero_and_a_threshold_cuts_them(learnt: nn.Module) -> None:
    # Given a network trained with L1
    notes: dict[str, Json] = {}
    sparse = driven(learnt, notes, target="weights", strength=0.45)
    # Then most weights are zero or nearly so, it still knows the images, and the report shows how that came
    assert isinstance(notes["zeros"], float)
    assert notes["zeros"] > 0.5
    assert accuracy(sparse.module) > 0.8
    histogram = notes["histogram"]
    assert isinstance(histogram, dict)
    assert int(str(histogram["zeros_after"])) > 100 * (1 + int(str(histogram["zeros_before"])))
    # When those under a small threshold are cut
    before = answers(sparse.module, DATA)
    cut = prune_weights.apply(sparse, PruneWeights(threshold=1e-4), Context())
    # Then the answers hardly change, and the zeros are masked
    assert torch.allclose(answers(cut.module, DATA), before, atol=0.05 * float(before.abs().max()))
    assert sum(int((~mask).sum()) for mask in cut.masks.values()) > 0.5 * sum(m.numel() for m in cut.masks.values())


def test_scales_are_driven_to_zero(learnt: nn.Module) -> None:
    # Given a network trained with L1 on its scales alone / When scales are compared with one trained without
    sparse = driven(learnt, target="bn_scales", strength=1.0)
    scales = torch.cat([part.weight.detach() for part in normalizations(sparse.module).values()])
    # Then a good part is exactly zero, no weight of a convolution is, and it still knows the images
    assert float((scales == 0).float().mean()) > 0.2
    assert not any((p == 0).any() for n, p in sparse.module.named_parameters() if p.dim() > 1)
    assert accuracy(sparse.module) > 0.8
    # When channels within the blocks go whose scale is small / Then just those go, and it knows the images still
    params = PruneChannels(threshold=0.88, importance="bn_scale", round_to=1, include=("layer?.0.conv1",))
    inner = [sparse.module.get_parameter(f"layer{n}.0.bn1.weight").detach() for n in (1, 2, 3, 4)]
    cut = prune_channels.apply(sparse, params, Context(calibration=DATA))
    for n, scales in zip((1, 2, 3, 4), inner, strict=True):
        assert 0 < int((scales > 0.88).sum()) < len(scales)
        assert torch.equal(cut.module.get_parameter(f"layer{n}.0.bn1.weight").detach(), scales[scales > 0.88])
    assert accuracy(cut.module) > 0.8


def test_channels_go_as_a_whole(learnt: nn.Module) -> None:
    # Given a network trained with a group lasso
    sparse = driven(learnt, target="channels", strength=0.55)
    # Then some channels are zero in every tensor that they are made of, and no others have many zeros
    groups = channel_slices(sparse.module, torch.zeros(1, 3, 32, 32), fixed=())
    norms = torch.cat([group.norms() for group in groups])
    assert 0.05 < float((norms == 0).float().mean()) < 1
    for group in groups:
        alive = group.norms() > 0
        for one in group.slices:
            assert not one.channels()[~alive].any()
    assert accuracy(sparse.module) > 0.8
    # When those go that are worth nothing
    logits, left = answers(sparse.module, DATA), int((norms > 0).sum())
    params = PruneChannels(threshold=0, importance="bn_scale", round_to=1, recalibrate=False)
    cut = prune_channels.apply(sparse, params, Context())
    # Then all that were zero are gone, and the answers are the same
    assert torch.allclose(answers(cut.module, DATA), logits, atol=1e-4)
    after = channel_slices(cut.module, torch.zeros(1, 3, 32, 32), fixed=())
    assert sum(len(group.norms()) for group in after) == left < len(norms)


def test_a_growing_strength_pulls_less(learnt: nn.Module) -> None:
    # Given the same strength, once from the start and once growing to it
    notes: list[dict[str, Json]] = [{}, {}]
    for one, growing in zip(notes, (False, True), strict=True):
        driven(learnt, one, target="weights", strength=0.1, growing=growing)
    # Then the growing one has driven fewer to zero
    assert 0 < float(str(notes[1]["zeros"])) < float(str(notes[0]["zeros"]))


def test_patterns_leave_layers_alone(learnt: nn.Module) -> None:
    sparse = driven(learnt, target="weights", strength=1.0, include=("fc",))
    assert (sparse.module.get_parameter("fc.weight") == 0).any()
    assert not any((p == 0).any() for n, p in sparse.module.named_parameters() if p.dim() > 1 and n != "fc.weight")


def test_a_network_without_scales_is_refused_before_the_work() -> None:
    candidate = Candidate(module=nn.Linear(2, 2), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=2)
    with pytest.raises(UnfitModel, match="no bn_scales"):
        train_sparse.preflight(candidate, TrainSparse(target="bn_scales"))
