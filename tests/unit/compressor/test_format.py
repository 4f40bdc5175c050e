"""Every format can be written and run, each by its own module."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from compressor.format import runtime_of, writer
from contract.artifact import OutputFormat


@pytest.mark.parametrize("form", OutputFormat)
def test_every_format_can_be_written(form: OutputFormat) -> None:
    assert callable(writer(form))


@pytest.mark.parametrize(
    ("name", "package"),
    [("model.onnx", "onnxruntime"), ("model.xml", "openvino"), ("model.safetensors", "torch"), ("model.pt2", "torch")],
)
def test_a_runtime_says_its_version(name: str, package: str) -> None:
    assert runtime_of(Path(name)).version() == f"{package} {version(package)}"


def test_a_program_that_is_compiled_says_so() -> None:
    assert runtime_of(Path("model.inductor.pt2")).version() == f"torch {version('torch')} (inductor)"


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_a_process_that_runs_a_file_loads_no_torch(name: str) -> None:
    # Given a fresh interpreter / When it loads what runs the file / Then there is no torch in it
    code = f"import sys; from pathlib import Path; from compressor.format import runtime_of; runtime_of(Path({name!r}))"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
