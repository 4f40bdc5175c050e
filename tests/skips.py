"""Skipped tests are on a committed list with reasons; in CI any other skip fails the run."""

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("skips.txt")


def allowed() -> list[str]:
    """Patterns over node ids."""
    lines = LIST.read_text().splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


class SkipWatch:
    """Notes what was skipped, and judges at the end."""

    def __init__(self) -> None:
        self._skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skip."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.add(report.nodeid)

    @property
    def _strangers(self) -> list[str]:
        """What was skipped and may not be, where that matters."""
        if not os.environ.get("CI"):
            return []
        return [name for name in sorted(self._skipped) if not any(fnmatchcase(name, p) for p in allowed())]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run where somebody skipped what is not on the list."""
        if self._strangers:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say so at the end, where everybody looks."""
        for name in self._strangers:
            terminalreporter.write_line(f"skipped, and not in {LIST.parent.name}/{LIST.name}: {name}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Watch this run, from where all of it is seen."""
    if hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(SkipWatch(), "skip-watch")
