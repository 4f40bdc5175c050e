"""What a method does on another device than the CPU, which torch's hidden copies between them would not forgive.

The device is one that tests have of their own; tests/gpu has a real one.
"""

import pytest
import torch

from compressor.method import method
from compressor.models.architectures import build
from contract.methods import METHODS, Params
from contract.methods.prune import PruneChannels
from tests.unit.compressor.elsewhere import elsewhere
from tests.unit.compressor.small_jobs import NETWORK
from tests.unit.compressor.small_steps import candidate_of, context_of, params_of

STEPS: list[Params] = [
    *map(params_of, METHODS),
    PruneChannels(ratio=0.3, importance="obs", samples=16),
]


@pytest.mark.parametrize("params", STEPS, ids=lambda params: f"{params.method}")
def test_a_step_is_done_where_the_context_says(params: Params) -> None:
    # Given a small network on the CPU, and a context of another device
    original = candidate_of(build(NETWORK, seed=0).eval())
    with elsewhere() as device:
        # When a method does its step there
        made = method(params.method)(original, params, context_of(original, device=device))
        # Then all of the network lies there
        assert {tensor.device for tensor in made.module.state_dict().values()} == {device}


def test_tensors_of_two_devices_do_not_meet() -> None:
    with elsewhere() as device:
        # Given a tensor there
        x = torch.ones(3, device=device)
        # When it is mixed with one of the CPU / Then that is refused, but for single numbers and copies
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(3)
        with pytest.raises(RuntimeError, match="two devices"):
            torch.ones(3)[x.long()]
        assert ((x * torch.tensor(2.0)).cpu() + torch.ones(3)).tolist() == [3, 3, 3]
        assert x[torch.tensor([0, 1])].device == device
