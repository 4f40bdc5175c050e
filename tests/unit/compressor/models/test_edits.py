"""Edits that put other layers into a network."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.models import files
from compressor.models.architectures import build
from compressor.models.edits import Edit, Narrow, Replace, apply_edits
from compressor.models.parts import Activation, Convolution
from contract.failures import InvalidModel
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING

STEM = "conv1.0"
TWO = Replace(
    module=STEM,
    parts=(
        Convolution(in_channels=3, out_channels=4, kernel_size=(3, 1), stride=(2, 1), padding=(1, 0)),
        Convolution(in_channels=4, out_channels=16, kernel_size=(1, 3), stride=(1, 2), padding=(0, 1), bias=True),
    ),
)


def edited(*edits: Edit, device: str = "cpu") -> nn.Module:
    module = build(NETWORK, seed=0, device=device).eval()
    apply_edits(module, edits)
    return module


def test_a_network_with_other_layers_is_written_and_rebuilt(tmp_path: Path) -> None:
    # Given a network of which two layers stand in the place of one, and another activation
    name = next(n for n, m in build(NETWORK).named_modules() if isinstance(m, nn.ReLU))
    edits = (TWO, Replace(module=name, parts=(Activation(name="hardswish"),)))
    module = edited(*edits)
    candidate = Candidate(module=module, architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4, edits=edits)
    # When it is written and read again
    files.write(candidate, tmp_path)
    again = files.read(tmp_path)
    # Then it is the same network
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.module(x), module(x))
    assert isinstance(again.module.get_submodule(name), nn.Hardswish)


def test_other_layers_have_the_mode_and_the_device_of_what_they_replace() -> None:
    # Given a network on meta, in eval mode / When layers are replaced
    made = edited(TWO, device="meta").get_submodule(STEM)
    # Then the new ones are there too
    assert not made.training
    assert {p.device.type for p in made.parameters()} == {"meta"}


def test_layers_within_what_was_replaced_can_be_narrowed() -> None:
    # Given two layers in the place of one / When the inner channels become fewer
    shapes = [{"weight": (2, 3, 3, 1)}, {"weight": (16, 2, 1, 3)}]
    module = edited(
        TWO,
        Narrow(module=f"{STEM}.0", sizes={"out_channels": 2}, shapes=shapes[0]),
        Narrow(module=f"{STEM}.1", sizes={"in_channels": 2}, shapes=shapes[1]),
    )
    # Then the network still answers
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_what_the_network_does_not_have_cannot_be_replaced() -> None:
    # Given an edit of a layer that is not there, when it is done, then it is refused by name
    with pytest.raises(InvalidModel, match=r"conv9"):
        edited(Replace(module="conv9", parts=(Activation(name="relu"),)))
