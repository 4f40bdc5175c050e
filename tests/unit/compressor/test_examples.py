"""The specs in examples/ are jobs that can be posted, and do what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

from compressor.compress import compress
from contract.composition import faults
from contract.job import JobResult
from contract.methods import METHODS, Role
from contract.report import StepReport
from contract.spec import InlineJobSpec
from tests.unit.compressor.small_jobs import NotingDesk, order, spec

SPECS = sorted((Path(__file__).parents[3] / "examples").glob("*.json"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_it_can_be_posted(path: Path) -> None:
    # Given an example / When it is read as what is posted / Then there is nothing to be said against it
    job = InlineJobSpec.model_validate_json(path.read_bytes())
    named = frozenset(role for role in Role if getattr(job.data, role.value) is not None)
    assert faults(job, data=named, untrained=False) == ()


def example(name: str, weights: Path, folder: Path) -> tuple[JobResult, list[StepReport]]:
    """What comes of the example and of its steps, for a small network that four tints are told apart by."""
    read: dict[str, Any] = json.loads(Path(SPECS[0].parent, f"{name}.json").read_bytes())
    parts = {part: read[part] for part in ("steps", "constraints", "outputs")}
    steps = tuple(METHODS[step["method"]].model_validate(step) for step in parts.pop("steps"))
    job = spec(*steps, roles=(Role.TRAIN, Role.EVALUATION), **parts)
    desk = NotingDesk(folder)
    result = compress(order(folder, weights, job), desk).result
    return result, [report for _, report in desk.succeeded]


def test_deep_compression_makes_a_small_file(trained_weights: Path, tmp_path: Path) -> None:
    # Given the example / When it is done
    result, _ = example("deep_compression", trained_weights, tmp_path)
    # Then nine weights in ten are zero, the others have one of 31 values, and accuracy holds
    report = result.report
    assert report.compressed.nonzero_parameters < 0.12 * report.baseline.nonzero_parameters
    assert result.outcome == "met"
    # And the file is small, names and statistics of a small network included
    assert report.ratio.size_bytes < 1 / 15


def test_half_of_the_macs_go_without_training(trained_weights: Path, tmp_path: Path) -> None:
    # Given the example / When it is done
    result, (pruned,) = example("half_the_macs", trained_weights, tmp_path)
    # Then half of them are left, or a little less, and the answers with them
    assert 0.45 <= result.report.ratio.macs <= 0.5
    assert result.outcome == "met"
    assert pruned.fidelity is not None
    assert pruned.fidelity.top1_agreement > 0.9


def test_a_fifth_of_the_macs_is_left(trained_weights: Path, tmp_path: Path) -> None:
    # Given the example / When it is done
    result, (factorized, taught) = example("fifth_of_the_macs", trained_weights, tmp_path)
    # Then that much is left, and the answers with it, before the original teaches it and behind
    assert result.report.ratio.macs < 0.2
    assert [verdict.met for verdict in result.constraints if verdict.metric == "macs"] == [True]
    assert factorized.fidelity is not None
    assert taught.fidelity is not None
    assert factorized.fidelity.top1_agreement > 0.9
    assert taught.fidelity.top1_agreement > 0.9
