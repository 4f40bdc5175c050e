"""Prune and quantize every torchvision classification architecture; write docs/coverage.md.

`python -m benchmarks.coverage` takes hours and goes on where it was stopped; `python -m benchmarks.coverage resnet18`
tries the named ones anew.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import get_args

from benchmarks.coverage_checks import Check, Finding
from contract.architecture import ArchitectureCard, architectures
from contract.value import Value

PAGE = Path("docs/coverage.md")
#: Committed with the page, so that a sweep of hours goes on from wherever the last one came to.
KEPT = Path(__file__).parent / "coverage.jsonl"
CHECKS: tuple[Check, ...] = get_args(Check)
#: What a network must lose to count as pruned.
_LEAST_REDUCTION = 0.2
_LIBRARIES = ("torch", "torchvision", "torch-pruning", "onnx", "onnxruntime")

HEAD = """# Coverage

Written by `make coverage` on {when} with {versions}. Every classification architecture of torchvision, with random
weights, {classes} classes and small images of noise, goes through each check in a process of its own:

- **prune_weights**: half of every layer's weights; the fraction of zeros.
- **prune_channels**: ratio 0.5 with the default `round_to` of 8; what is left of parameters and MACs. The network that
  its edits rebuild answers the same, bit by bit. Networks with attention or shuffled channels lose what lies within
  their blocks only.
- **ONNX**: float32; a clean process with ONNX Runtime answers within 1e-3 of the largest logit. Megabytes of the file.
- **quantize_static**: to INT8 ONNX, which answers as the simulated network does, within 0.1 of the largest logit or as
  far as quantizing has moved that network's answers; the part of the multiply-accumulates that ONNX Runtime does in
  integers.
- **both**: prune_channels, then quantize_static.

| | passed | refused by name | failed |
| --- | --- | --- | --- |
{summary}

{tried} of {known} were tried; {pruned} lose at least {least:.0%} of their parameters (aim: 70).

| architecture | parameters | prune_weights | prune_channels | ONNX | quantize_static | both |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


class Row(Value):
    """What was found about one architecture."""

    name: str
    findings: tuple[Finding, ...]

    def finding(self, check: Check) -> Finding:
        """How the check went; failed where its process ended before it."""
        missing = Finding(check=check, outcome="failed", detail="the process ended before this")
        return next((finding for finding in self.findings if finding.check == check), missing)


def tried(name: str, *, seconds: float) -> Row:
    """Try everything on one architecture, in a process that may take so long."""
    command = [sys.executable, "-m", "benchmarks.coverage_checks", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        output, why = done.stdout, f"the process ended with status {done.returncode}: {done.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired as expired:
        output, why = _text(expired.stdout), f"took more than {seconds:g} s"
    findings = [Finding.model_validate_json(line) for line in output.splitlines() if line.startswith("{")]
    missing = [check for check in CHECKS if check not in {finding.check for finding in findings}]
    if missing:
        findings.append(Finding(check=missing[0], outcome="failed", detail=why))
    return Row(name=name, findings=tuple(findings))


def _text(output: bytes | str | None) -> str:
    return output.decode() if isinstance(output, bytes) else output or ""


def kept() -> dict[str, Row]:
    """What earlier sweeps have found."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return {row.name: row for row in map(Row.model_validate_json, lines)}


def keep(rows: Mapping[str, Row]) -> None:
    """Write what was found, for this page and for the next sweep."""
    KEPT.write_text("".join(rows[name].model_dump_json() + "\n" for name in sorted(rows)))
    PAGE.write_text(page([rows[name] for name in sorted(rows)]))


def page(rows: list[Row]) -> str:
    """The page, with the reasons behind the table."""
    head = HEAD.format(
        when=datetime.now(UTC).date(),
        versions=", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        classes=10,
        summary="\n".join(_summary(check, rows) for check in CHECKS),
        pruned=sum(_is_pruned(row.finding("prune_channels")) for row in rows),
        tried=len(rows),
        known=len(_cards()),
        least=_LEAST_REDUCTION,
        rows="\n".join(_line(row) for row in rows),
    )
    reasons = [f"- {row.name}, {f.check}: {f.detail}" for row in rows for f in row.findings if f.outcome != "passed"]
    return head + ("\n## Reasons\n\n" + "\n".join(reasons) + "\n" if reasons else "")


def _is_pruned(finding: Finding) -> bool:
    return finding.outcome == "passed" and finding.figures["parameters_left"] <= 1 - _LEAST_REDUCTION


def _summary(check: Check, rows: list[Row]) -> str:
    outcomes = [row.finding(check).outcome for row in rows]
    return f"| {check} | " + " | ".join(str(outcomes.count(o)) for o in ("passed", "refused", "failed")) + " |"


def _line(row: Row) -> str:
    cells = (_cell(row.finding(check)) for check in CHECKS)
    return f"| {row.name} | " + " | ".join(cells) + " |"


def _cell(finding: Finding) -> str:
    if finding.outcome != "passed":
        return f"**{finding.outcome}**"
    match finding.check, finding.figures:
        case "builds", {"parameters": parameters}:
            return f"{parameters / 1e6:.1f} M"
        case "prune_weights", {"zeros": zeros}:
            return f"{zeros:.1%} zeros"
        case "prune_channels", {"parameters_left": parameters, "macs_left": macs}:
            return f"{parameters:.0%}, {macs:.0%} of MACs"
        case "onnx", {"size_bytes": size}:
            return f"{size / 1e6:.1f} MB"
        case _, {"size_bytes": size, "int8_macs": part}:
            return f"{size / 1e6:.1f} MB, {part:.0%} integer"
    return "passed"


def _cards() -> list[ArchitectureCard]:
    return [card for card in architectures().values() if card.library == "torchvision"]


def main() -> None:
    """Try what is named, or else all that has not been tried, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=3600, help="what one architecture may take")
    parser.add_argument("--at-once", type=int, default=1, help="processes side by side")
    arguments = parser.parse_args()
    rows = kept()
    untried = [c.name for c in sorted(_cards(), key=lambda card: card.parameters) if c.name not in rows]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for row in pool.map(lambda name: tried(name, seconds=arguments.seconds), arguments.names or untried):
            rows[row.name] = row
            keep(rows)
            print(_line(row), flush=True)
    print(f"Written to {PAGE}")


if __name__ == "__main__":
    main()
