"""Libraries of networks are loaded without torch's compiler, and it works as ever once it is wanted."""

import subprocess
import sys

import pytest

_AFTER = """
import sys
import torch
from torch.export import export
from compressor.models.architectures import build, build_hollow, names
from contract.model import Architecture
wanted = Architecture(name={name!r}, library={library!r})
assert {name!r} in names({library!r})
build_hollow(wanted)
assert not any(module.startswith("torch._dynamo") for module in sys.modules)
{then}
assert "torch._dynamo.eval_frame" in sys.modules
"""
_EXPORTED = """
module = build(wanted).eval()
export(module, (torch.zeros(1, 3, 64, 64),))
"""
_COMPILED = "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2"
_ASKED = """
from torchvision.ops.roi_align import is_compile_supported
assert is_compile_supported("cpu") in (True, False)
"""
_DISABLED = """
from timm.models.naflexvit import NaFlexRopeIterator
rope = NaFlexRopeIterator.__new__(NaFlexRopeIterator)
rope.depth = 0
assert list(rope) == []
"""


@pytest.mark.parametrize(
    ("library", "name", "then"),
    [
        ("torchvision", "resnet18", _EXPORTED),
        ("torchvision", "resnet18", _COMPILED),
        ("torchvision", "resnet18", _ASKED),
        ("timm", "test_resnet", _EXPORTED),
        ("timm", "test_vit", _DISABLED),
    ],
    ids=["exported", "compiled", "asked", "timm exported", "timm disabled"],
)
def test_it_is_loaded_when_it_is_wanted_and_not_before(library: str, name: str, then: str) -> None:
    # Given a process of its own / When it builds a network, and then wants what needs the compiler
    code = _AFTER.format(library=library, name=name, then=then)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # Then nothing of it was there before, and it works
    assert found.returncode == 0, found.stderr
