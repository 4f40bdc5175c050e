"""2:4 zeros go through the GPU's own kernels, and what they bring is measured."""

import pytest
import torch
from torch import nn

from compressor.context import Context
from compressor.measure.semi_structured import semi_structured
from compressor.methods import prune_weights
from contract.methods.prune import PruneWeights
from contract.value import Json
from tests.unit.compressor.pruning.architectures import candidate

pytestmark = pytest.mark.gpu


def test_the_kernels_compute_what_the_dense_ones_do(cuda: torch.device) -> None:
    # Given matrices with 2:4 zeros, large enough for the kernels
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4096), nn.ReLU(), nn.Linear(4096, 1024)).to(cuda)
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in module.named_parameters() if p.dim() == 2}
    for name, mask in masks.items():
        mask.view(len(mask), -1, 4)[..., :2] = True
        module.get_parameter(name).data *= mask
    # When both kernels are run
    found = semi_structured(module, masks, torch.randn(512, 3, 32, 32, device=cuda))
    # Then they agree as far as float16 does, both were timed, and the network is as it was
    assert found is not None
    assert found.weights == 2
    assert found.difference < 1e-2
    assert min(found.dense_ms, found.sparse_ms) > 0
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_pruning_on_the_device_tells_what_its_kernels_make_of_the_zeros(cuda: torch.device) -> None:
    # Given a vision transformer / When it is pruned 2:4 on the device
    details: dict[str, Json] = {}
    context = Context(device=cuda, record=details.__setitem__)
    prune_weights.apply(candidate("vit_b_32"), PruneWeights(pattern="2:4"), context)
    # Then the report has both times
    told = details["semi_structured"]
    assert isinstance(told, dict)
    assert {"dense_ms", "sparse_ms"} <= told.keys()
