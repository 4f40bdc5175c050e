"""What is generated is committed, and fresh."""

import ast
import json
import tomllib
from importlib.metadata import version
from pathlib import Path

from contract.architecture import architectures
from contract.settings import Settings
from service.describe import API, PAGE, api, methods

ROOT = Path(__file__).parents[2]
PACKAGES = ("contract", "storage", "compressor", "worker", "service", "modelpress")


def test_what_is_described_is_fresh() -> None:
    # Given the committed descriptions / When they are made anew / Then they are the same: else run `make generate`
    assert (ROOT / API).read_text() == api()
    assert (ROOT / PAGE).read_text() == methods()


def test_every_step_is_in_the_description() -> None:
    # Given the description / When the steps of a job are looked up / Then each method is there by its name
    steps = json.loads((ROOT / API).read_text())["components"]["schemas"]["JobSpec"]["properties"]["steps"]
    assert set(steps["items"]["discriminator"]["mapping"]) >= {"prune_channels", "distill", "quantize_static"}


def test_every_setting_is_listed_with_its_default() -> None:
    # Given the list of settings / When it is read
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    listed = {line.partition("=")[0]: line.partition("=")[2].partition("#")[0].strip() for line in lines}
    # Then it has each of them, and no other
    assert set(listed) == set(Settings.model_construct().environment())


def test_dependencies_are_pinned_at_the_installed_versions() -> None:
    # Given the pins / When they are compared with what is installed
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # What `all` does not hold is installed by few, and has its pin beside its name.
    pinned_there = {n for e in wanted["optional-dependencies"].values() for n in e if "==" in n}
    listed = (n for e in wanted["optional-dependencies"].values() for n in e if n not in pinned_there)
    named = {n.split("[")[0].split(">")[0].lower() for n in listed}
    # Then every direct dependency has a pin, and the pin is what runs
    lower = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    direct = {name for name in named if name != "modelpress"}
    assert direct <= set(lower)
    assert {n: version(n).split("+")[0] for n in direct} == {n: lower[n] for n in direct}


def test_nobody_prints() -> None:
    # Given every module of the product / When calls of print are looked for
    trees = {path: ast.parse(path.read_text()) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    calls = [f"{p}:{n.lineno}" for p, t in trees.items() for n in ast.walk(t) if _prints(n)]
    # Then there are none
    assert len(trees) > 50
    assert calls == []


def _prints(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def test_the_catalogue_of_architectures_covers_both_libraries() -> None:
    # Given the committed catalogue / When it is read
    found = architectures()
    # Then it holds torchvision's classification networks and timm's, with what their papers say of their size
    assert sum(library == "torchvision" for library, _ in found) == 80
    assert found["torchvision", "resnet18"].parameters == 11_689_512
    assert found["torchvision", "mobilenet_v2"].macs == 300_774_272
    assert sum(library == "timm" for library, _ in found) > 1300
    assert found["timm", "vit_tiny_patch16_224"].parameters == 5_717_416
