"""The stack keeps its processes alive, and ends all of them however it ends itself."""

import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from contract.settings import Settings
from contract.worker import Capabilities
from modelpress.up import Stack, StackError
from tests.deadline import until
from tests.faults.conftest import settings_at
from tests.stacks import parts_of, running


class Told:
    """Remembers what the stack tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(text)


def stack_settings(folder: Path, **more: object) -> Settings:
    return settings_at(folder, port=0, **more)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Iterator[Stack]:
    """A stack whose parts may be killed."""
    with Stack(stack_settings(tmp_path_factory.mktemp("stack")), tell=told) as stack:
        yield stack


def part(stack: Stack, command: str) -> list[psutil.Process]:
    """The one part of the stack that this command runs, while it lives."""
    return [process for process in parts_of(stack) if process in running(stack, command)]


def healthy(stack: Stack) -> Callable[[], bool]:
    """Whether the API answers, and knows of its broker."""

    def holds() -> bool:
        try:
            return httpx.get(stack.url + "/readyz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    return holds


def workers(stack: Stack) -> set[str]:
    answer = httpx.get(stack.url + "/v1/capabilities", trust_env=False)
    return {worker.id for worker in Capabilities.model_validate_json(answer.content).workers}


def test_it_is_up_when_its_block_begins(stack: Stack, told: Told) -> None:
    # Given / When a stack / Then everything is there, on a port that was free, in a folder of this user alone
    assert healthy(stack)()
    assert len(workers(stack)) == 1
    assert stack.settings.port != 0
    assert stat.S_IMODE(stack.settings.data_dir.stat().st_mode) == 0o700
    assert told.lines[:3] == ["broker is up", "api is up", "worker 1 is up"]


@pytest.mark.parametrize(
    ("command", "name"), [("redis-server", "broker"), ("-m service", "api"), ("-m worker", "worker 1")]
)
def test_a_part_that_is_killed_starts_anew(stack: Stack, told: Told, command: str, name: str) -> None:
    # Given a part of the stack
    (victim,) = part(stack, command)
    # When it is killed
    victim.kill()
    # Then another takes its place, and it is told
    until(lambda: part(stack, command) not in ([], [victim]))
    until(healthy(stack))
    assert [line for line in told.lines if line.startswith(f"{name} ended (SIGKILL)")] != []


def test_two_stacks_do_not_disturb_each_other(stack: Stack, tmp_path: Path) -> None:
    # Given a stack / When another comes and goes, in a folder whose name is too long for a socket
    folder = tmp_path / ("long" * 25)
    before = workers(stack)
    with Stack(stack_settings(folder, workers=0)) as other:
        # Then each has its own address
        assert other.url != stack.url
        assert healthy(other)()
    assert healthy(stack)()
    assert workers(stack) >= before


def test_one_folder_holds_one_stack(stack: Stack) -> None:
    # Given a stack / When another wants its folder / Then it is refused
    with pytest.raises(StackError, match="another stack"), Stack(stack_settings(stack.settings.data_dir)):
        pass


def test_a_stack_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    # Given an address beyond loopback, and no keys
    stack = Stack(stack_settings(tmp_path, host="0.0.0.0"))
    # When / Then
    with pytest.raises(StackError, match=r"(?s)api did not start.*MODELPRESS_API_KEYS"), stack:
        pass
    assert running(stack, "") == []


def in_foreground(folder: Path) -> subprocess.Popen[str]:
    """`up` in a process of its own, once it is up."""
    code = (
        "import sys; from pathlib import Path; from modelpress.up import up; "
        "from tests.faults.test_stack import stack_settings; sys.exit(up(stack_settings(Path(sys.argv[1]))))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "answers on" in line:
            return process
    raise AssertionError("the stack ended before it was up")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    # Given a stack in the foreground
    with in_foreground(tmp_path) as process:
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 4
        # When it gets a signal
        process.send_signal(number)
        process.wait(60)
    # Then none of its processes is left
    until(lambda: not any(one.is_running() for one in family))
    assert process.returncode == (-signal.SIGKILL if number is signal.SIGKILL else 0)
