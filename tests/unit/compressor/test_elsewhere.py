"""What methods and jobs do on another device than the CPU, where tensors that lie apart do not meet.

The device is one that tests have of their own; tests/gpu has a real one.
"""

import json
import subprocess
import sys
from collections.abc import Mapping

import pytest

from contract.methods import METHODS


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Mapping[str, str]]:
    """What came of each, done one behind the other in a process that has such a device."""
    command = [sys.executable, "-m", "tests.unit.compressor.steps_elsewhere"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: Mapping[str, Mapping[str, str]] = json.loads(ran.stdout)
    return found


STEPS = (*METHODS, "prune_weights by obs", "prune_channels by obs", "fine_tune on shifted images")


def test_whatever_is_done_there_is_looked_at(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    assert set(outcomes) == {*STEPS, "job", "tensors", "zeros"}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_done_where_the_context_says(outcomes: Mapping[str, Mapping[str, str]], name: str) -> None:
    # Given a small network on the CPU, and a context of another device
    # When a method does its step there / Then all of the network lies there
    assert outcomes[name]["device"] == "elsewhere:0", outcomes[name].get("failure")


def test_a_job_on_the_device_delivers_files_for_the_cpu(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    # Given a job of several steps / When it is done on another device
    # Then its files have been proven and timed in processes that have none, and the report says where it was done
    assert outcomes["job"]["device"] == "elsewhere", outcomes["job"].get("failure")


def test_weights_are_chosen_there_as_they_are_on_the_cpu(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    # Given the same network twice / When weights of each importance are cut on both devices / Then they are the same
    assert outcomes["zeros"]["device"] == "elsewhere:0", outcomes["zeros"].get("failure")


def test_tensors_of_two_devices_do_not_meet(outcomes: Mapping[str, Mapping[str, str]]) -> None:
    # Given a tensor there / When it meets one of the CPU / Then that is refused, but for numbers, indices and copies
    assert outcomes["tensors"]["device"] == "elsewhere:0", outcomes["tensors"].get("failure")
