"""A row of the results, and the page they make."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from contract.host import cores, instruction_set, processor

PAGE = Path(__file__).parent / "RESULTS.md"
#: Committed with the page, so that one group can be measured anew alone.
KEPT = Path(__file__).parent / "results.json"

HEAD = """# Results

Written by `make bench`, each row when and where it says. Machines are shared and noisy: read the ratios, which compare
two things measured in one run, before the absolute figures. A missed aim is marked MISSED.

| what | measured | beside | aim | | on |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, what it stands beside, and what we aimed at."""

    group: str
    what: str
    measured: str
    beside: str = ""
    aim: str = ""
    #: Null where there is no aim.
    met: bool | None = None
    #: When, and on what machine.
    on: str = ""

    def line(self) -> str:
        """The row as Markdown."""
        verdict = {True: "met", False: "**MISSED**", None: ""}[self.met]
        return f"| {self.what} | {self.measured} | {self.beside} | {self.aim} | {verdict} | {self.on} |"


def host() -> str:
    """The processor that figures are measured on."""
    return f"{processor()}, {instruction_set()}, {cores()} cores"


def keep(rows: Sequence[Row]) -> None:
    """Write the page, with these rows in place of the older ones of their groups."""
    older = [Row(**row) for row in json.loads(KEPT.read_text())] if KEPT.exists() else []
    renewed = {row.group for row in rows}
    on = f"{datetime.now(UTC).date()}, {host()}"
    newer = [replace(row, on=on) for row in rows]
    merged = sorted([row for row in older if row.group not in renewed] + newer, key=lambda row: row.group)
    KEPT.write_text(json.dumps([asdict(row) for row in merged], indent=1))
    PAGE.write_text(HEAD + "\n".join(row.line() for row in merged) + "\n")


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
