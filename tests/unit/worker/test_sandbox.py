"""What a job's process gets to see and may do."""

import subprocess
import sys
from pathlib import Path

from tests.deadline import until
from worker import sandbox


def test_only_what_is_named_passes_into_the_environment(tmp_path: Path) -> None:
    # Given an environment with secrets
    ours = {"PATH": "/bin", "REDIS_URL": "redis://:secret@host", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/root"}
    # When
    theirs = sandbox.environment(tmp_path, threads=3, inherited=ours)
    # Then
    assert theirs["PATH"] == "/bin"
    assert (theirs["OMP_NUM_THREADS"], theirs["OMP_WAIT_POLICY"]) == ("3", "PASSIVE")
    assert theirs["TMPDIR"] == theirs["HOME"] == str(tmp_path / "tmp")
    assert not any("secret" in value for value in theirs.values())


def test_a_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    # Given a parent with a child that is bound to it
    code = f"""
import os, sys, time
from worker import sandbox
parent = os.getpid()
if os.fork() == 0:
    sandbox.die_with(parent)
    open({str(tmp_path / "child")!r}, "w").write(str(os.getpid()))
    time.sleep(600)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        told = tmp_path / "child"
        until(lambda: told.exists() and told.read_text() != "")
        # When the parent is killed
        parent.kill()
    # Then so is the child
    status = Path(f"/proc/{told.read_text()}/status")
    until(lambda: not status.exists() or "State:\tZ" in status.read_text())


def test_a_child_that_outlived_its_parent_before_it_was_bound_ends() -> None:
    # Given a process whose parent is not the one it should have / When it binds itself / Then it ends
    code = "from worker import sandbox; sandbox.die_with(999999999); print('lives')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_a_file_beyond_the_bound_cannot_be_written(tmp_path: Path) -> None:
    # Given a process that may write one mebibyte / When it writes two / Then it is refused
    code = f"""
import os
from worker import sandbox
sandbox.close(sandbox.Bounds(file_bytes=1024**2), parent=os.getppid())
open({str(tmp_path / "file")!r}, "wb").write(b"x" * 2 * 1024**2)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"File too large" in ended.stderr
    assert (tmp_path / "file").stat().st_size <= 1024**2
