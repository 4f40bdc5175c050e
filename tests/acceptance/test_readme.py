"""What the README tells people to paste works when pasted."""

import re
import subprocess
from pathlib import Path

import pytest

from contract.methods import METHODS
from tests.acceptance.models import weights_file

README = Path(__file__).parents[2] / "README.md"


def pasted(url: str) -> str:
    """The curl walk-through, against this service."""
    section = README.read_text().split("## With curl alone")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    assert len(blocks) == 2
    return "\n".join(blocks).replace("http://127.0.0.1:8000", url)


@pytest.fixture
def after_the_demo(tmp_path: Path, train_zip: Path, evaluation_zip: Path) -> Path:
    """A folder in which the demo has left what it leaves."""
    output = tmp_path / "demo-output"
    output.mkdir()
    weights_file(output, "resnet18", num_classes=10).rename(output / "resnet18-digits.safetensors")
    (output / "digits-train.zip").write_bytes(train_zip.read_bytes())
    (output / "digits-evaluation.zip").write_bytes(evaluation_zip.read_bytes())
    return tmp_path


def test_the_walk_through_ends_with_a_model(service_url: str, after_the_demo: Path) -> None:
    # Given what the demo leaves / When the walk-through is pasted into a shell
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pasted(service_url)], cwd=after_the_demo, capture_output=True, text=True
    )
    # Then it runs to its end, and the files are there
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "job.succeeded" in ran.stdout
    assert (after_the_demo / "model.onnx").stat().st_size > 100_000
    assert "<html" in (after_the_demo / "report.html").read_text()


def test_every_method_stands_in_the_table() -> None:
    # Given the table of methods / When it is compared with what there is / Then none is missing and none too many
    section = README.read_text().split("## What a step can be")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", section, flags=re.MULTILINE)) == set(METHODS)
