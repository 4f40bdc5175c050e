"""Who may know whom."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_layers_hold() -> None:
    # Given the rules of pyproject.toml / When they are run
    ran = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    # Then none is broken
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    "module",
    [
        "service.app",
        "service.describe",
        "worker.app",
        "worker.supervise",
        "modelpress",
        "modelpress.cli",
        "storage.jobs",
    ],
)
def test_no_process_but_the_runner_loads_torch(module: str) -> None:
    # Given a fresh interpreter / When it imports what a process starts with
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    # Then there is no torch
    assert ran.returncode == 0, ran.stderr or f"{module} loads torch"


def test_torch_is_found_where_it_is_loaded() -> None:
    # Given the same look at a module that does load torch / When it is imported / Then the look sees it
    code = "import sys, compressor.candidate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 1
