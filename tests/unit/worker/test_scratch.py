"""A job's folder is its own, and goes with it or with its worker."""

import os
import stat
from pathlib import Path

from worker.scratch import STALE_SECONDS, Folder, remove_stale


def test_a_folder_is_empty_and_for_this_user_alone(tmp_path: Path) -> None:
    # Given / When
    folder = Folder.make(tmp_path)
    # Then
    assert {path.name for path in folder.path.iterdir()} == {"in", "out", "tmp", "checkpoints"}
    assert stat.S_IMODE(folder.out.stat().st_mode) == 0o700
    folder.remove()


def test_a_folder_goes_whatever_rights_the_job_took_away(tmp_path: Path) -> None:
    # Given a job that leaves locked folders and a link to what is not its own
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = Folder.make(tmp_path / "jobs")
    inner = folder.out / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (folder.out / "link").symlink_to(outside)
    inner.chmod(0)
    inner.parent.chmod(0o500)
    # When
    folder.remove()
    # Then
    assert not folder.path.exists()
    assert outside.exists()


def test_only_folders_that_nobody_holds_are_stale(tmp_path: Path) -> None:
    # Given three old folders: one held, one whose holder has gone, one that is young
    held, left, young = (Folder.make(tmp_path) for _ in range(3))
    os.close(left._hold)
    os.close(young._hold)
    for folder in (held, left):
        os.utime(folder.path, (0, 0))
    # When
    remove_stale(tmp_path)
    # Then
    assert [held.path.exists(), left.path.exists(), young.path.exists()] == [True, False, True]
    assert STALE_SECONDS > 0
    held.remove()


def test_nothing_is_stale_where_there_is_no_folder(tmp_path: Path) -> None:
    # Given / When / Then
    remove_stale(tmp_path / "none")
