"""What a worker says that it has is what is there."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from contract.artifact import OutputFormat
from contract.settings import Settings
from worker.card import cuda_is_there, inductor_is_there, memory_bytes, write_card


def test_the_card_tells_of_this_machine() -> None:
    # Given / When
    card = write_card(Settings(slots=2))
    # Then
    assert card.slots == 2
    for runtime in ("onnxruntime", "openvino"):
        assert card.runtimes[runtime] == metadata.version(runtime)
    assert set(card.outputs) | {OutputFormat.EXECUTORCH, OutputFormat.TORCH_INDUCTOR} == set(OutputFormat)
    assert (OutputFormat.TORCH_INDUCTOR in card.outputs) == inductor_is_there()
    assert card.version.startswith(metadata.version("modelpress") + "+")


@pytest.mark.parametrize("package", ["openvino", "executorch"])
def test_a_format_without_its_runtime_is_not_offered(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    # Given an environment in which everything is installed but for one package
    any_version = metadata.distribution("modelpress")
    monkeypatch.setattr(metadata, "distributions", lambda *, name: [] if name == package else [any_version])
    monkeypatch.setattr("worker.card.inductor_is_there", lambda: True)
    # When the card is written
    card = write_card(Settings())
    # Then everything else is offered
    assert set(card.outputs) == set(OutputFormat) - {OutputFormat(package)}
    assert package not in card.runtimes


@pytest.mark.parametrize("missing", [None, "nncf", "openvino"])
def test_another_quantizer_is_offered_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    # Given an environment with NNCF, or without it, or without what it is for
    any_version = metadata.distribution("modelpress")
    monkeypatch.setattr(metadata, "distributions", lambda *, name: [] if name == missing else [any_version])
    # When the card is written / Then it says who can choose integers
    assert write_card(Settings()).quantizers == (("plan", "nncf") if missing is None else ("plan",))


def test_without_a_compiler_no_program_for_it_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a machine without g++ / When the card is written / Then programs that are not compiled are offered alone
    monkeypatch.setenv("PATH", str(tmp_path))
    offered = write_card(Settings()).outputs
    assert OutputFormat.TORCH_EXPORT in offered
    assert OutputFormat.TORCH_INDUCTOR not in offered


def test_two_starts_are_two_workers_of_one_version() -> None:
    # Given / When
    first, second = write_card(Settings()), write_card(Settings())
    # Then
    assert first.id != second.id
    assert first.version == second.version


def test_writing_the_card_loads_no_torch() -> None:
    # Given a fresh interpreter / When it writes a card / Then there is no torch in it
    code = (
        "import sys; from contract.settings import Settings; from worker.card import write_card; "
        "write_card(Settings()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_is_hidden_or_missing_is_not_told(tmp_path: Path) -> None:
    # Given a machine without a device, and one whose device is hidden
    (tmp_path / "nvidia0").touch()
    # When / Then
    assert not cuda_is_there({}, Path("/nowhere"))
    assert not cuda_is_there({"CUDA_VISIBLE_DEVICES": ""}, tmp_path)
    assert not cuda_is_there({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path)


def test_a_control_group_bounds_the_memory(tmp_path: Path) -> None:
    # Given a group with a limit, and one without
    bounded, unbounded = tmp_path / "memory.max", tmp_path / "other"
    bounded.write_text("1048576\n")
    unbounded.write_text("max\n")
    # When / Then
    assert memory_bytes([bounded, unbounded]) == 1048576
    assert memory_bytes([unbounded]) > 1048576
