"""Which channels go together, which stay, and how many go."""

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from compressor.pruning.costs import Use
from compressor.pruning.groups import ChannelGroup, channel_groups, removals, remove
from compressor.pruning.importance import IMPORTANCES, Shown
from compressor.pruning.opaque import rearranging, watched
from compressor.pruning.tracing import trace
from contract.methods.prune import PruneChannels
from tests.unit.compressor.pruning.architectures import UNLIKE, candidate, images, stirred

_SILENCED = (OPTYPE.CONV, OPTYPE.DEPTHWISE_CONV, OPTYPE.LINEAR, OPTYPE.BN)


def traced(module: nn.Module, x: Tensor) -> tp.DependencyGraph:
    module.requires_grad_(True).eval()
    with torch.no_grad(), watched(module) as calls:
        module(x[:1])
    return trace(module, x[:1], opaque=[module.get_submodule(name) for name in rearranging(module, calls)])


def chosen(graph: tp.DependencyGraph, params: PruneChannels) -> list[tuple[nn.Module, list[int]]]:
    network = graph.model
    importance = IMPORTANCES[params.importance](Shown(network, graph))
    groups = channel_groups(graph, importance, fixed=[]).groups
    removed = removals(groups, params, 0.5, names={part: name for name, part in network.named_modules()})
    return [(group.root, group.least(count)) for group, count in zip(groups, removed, strict=True) if count]


def silence(graph: tp.DependencyGraph, layer: nn.Module, channels: list[int]) -> bool:
    """Let the channels be zero wherever they come out; false where a norm over all channels would notice."""
    group = graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, channels)
    if any(dep.target.type is OPTYPE.LN for dep, _ in group):
        return False
    for dep, indices in group:
        part = dep.target.module
        if dep.target.type in _SILENCED and graph.is_out_channel_pruning_fn(dep.handler):
            for tensor in (part.weight, part.bias, getattr(part, "running_mean", None)):
                if tensor is not None:
                    tensor.data[indices] = 0
    return True


@pytest.mark.filterwarnings("ignore:Unwrapped parameters detected")
@pytest.mark.parametrize("name", UNLIKE)
def test_removing_channels_that_are_zero_changes_no_answer(name: str) -> None:
    # Given: a network whose least important channels are silenced
    x = images(4, UNLIKE[name]).double()
    module = stirred(candidate(name, side=UNLIKE[name]).module.double(), x)
    graph = traced(module, x)
    silent = [choice for choice in chosen(graph, PruneChannels()) if silence(graph, *choice)]
    with torch.no_grad():
        expected = module(x)
    before = sum(p.numel() for p in module.parameters())

    # When: they are removed
    for layer, channels in silent:
        remove(graph, layer, channels)

    # Then: the network is smaller and answers as before, to a millionth of what tells its images apart
    with torch.no_grad():
        answer = module(x)
    assert sum(p.numel() for p in module.parameters()) < 0.8 * before
    assert float((answer - expected).abs().max()) <= 1e-6 * float(expected.std(dim=0).max())


def of_worth(importances: Tensor, cost: float | None, *layers: nn.Module) -> ChannelGroup:
    return ChannelGroup(
        root=layers[0] if layers else nn.Identity(), blocks=1, importances=importances,
        uses=tuple(Use(layer, True, 1 / len(importances)) for layer in layers),
        structure=(), remove=lambda _: {}, cost=cost,
    )  # fmt: skip


@pytest.mark.parametrize(("cost", "lost"), [(None, [4, 4]), (1.0, [4, 4]), (4.0, [1, 7]), (0.25, [7, 1])])
def test_channels_go_where_they_cost_most_for_what_they_are_worth(cost: float | None, lost: list[int]) -> None:
    # Given two layers of equal worth, of which the second costs more or less / When half of all channels goes
    worth = torch.arange(1.0, 9.0)
    groups = [of_worth(worth, None if cost is None else 1.0), of_worth(worth, cost)]
    params = PruneChannels(importance="fisher", scope="global", round_to=1)
    # Then the dearer layer loses more
    assert removals(groups, params, 0.5, names={}) == lost


@pytest.mark.parametrize("asked", [{"ratio": 0.5, "scope": "global"}, {"threshold": 8.0}], ids=["ratio", "threshold"])
def test_layers_with_a_ratio_of_their_own_have_no_part_in_what_is_asked_of_the_others(asked: dict[str, object]) -> None:
    # Given a layer that shall stay as it is, worth less than another / When half of all channels goes, or what is below
    # a threshold that the first does not reach
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    groups = [of_worth(torch.arange(1.0, 9.0), 1.0, first), of_worth(torch.arange(5.0, 13.0), 1.0, second)]
    params = PruneChannels.model_validate({**asked, "ratio_by_layer": {"first": 0.0}, "round_to": 1})
    # Then the other loses half of its own
    assert removals(groups, params, 0.5, names={first: "first", second: "second"}) == [0, 4]
