"""How near a quantized network stays to the float one."""

import pytest
import torch

from compressor.quantization.fidelity import fidelity
from contract.report import Flips


def test_flips_are_counted_by_the_float_networks_class() -> None:
    # Given answers to eight images, of which three changed: two of the four cats, one of the three dogs
    before = torch.eye(3)[[0, 0, 0, 0, 1, 1, 1, 2]] * 4
    after = torch.eye(3)[[0, 0, 1, 2, 1, 1, 0, 2]] * 4
    # When they are compared
    found = fidelity(before, after, {"stem": 31.234, "head": None}, classes=("cat", "dog", "owl"))
    # Then each class that lost an answer is told by its name, and the others are not
    assert found.flips == (Flips(name="cat", images=4, flipped=2), Flips(name="dog", images=3, flipped=1))
    assert found.top1_agreement == pytest.approx(5 / 8)
    # And the divergence is the mean of sum p log(p / q)
    p, q = (logits.double().softmax(1) for logits in (before, after))
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum(1).mean()))
    assert [layer.sqnr_db for layer in found.layers] == [31.23, None]


def test_classes_without_names_have_numbers() -> None:
    # Given answers of which one changed / When nobody named the classes / Then they are told by number
    found = fidelity(torch.eye(2), torch.eye(2).flip(0), {}, classes=None)
    assert [flips.name for flips in found.flips] == ["0", "1"]
