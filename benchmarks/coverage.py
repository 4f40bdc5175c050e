"""Prune and quantize every torchvision architecture, and a choice of timm's; write docs/coverage.md.

`python -m benchmarks.coverage` takes hours and goes on where it was stopped, check by check;
`python -m benchmarks.coverage resnet18 timm/levit_128` tries the named ones anew.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.coverage_checks import CHECKS, HALF, RATIO, Check, Finding, named
from contract.architecture import architectures
from contract.value import Value

PAGE = Path("docs/coverage.md")
#: Committed with the page, so that a sweep of hours goes on from wherever the last one came to.
KEPT = Path(__file__).parent / "coverage.jsonl"
#: As unlike each other as timm's architectures are.
TIMM = (
    "beit_base_patch16_224", "cait_xxs24_224", "coat_tiny", "convmixer_768_32", "convnextv2_atto", "crossvit_tiny_240",
    "cspdarknet53", "deit3_small_patch16_224", "dla34", "dpn68", "eca_nfnet_l0", "ecaresnet26t", "edgenext_xx_small",
    "efficientformer_l1", "efficientnet_lite0", "fastvit_t8", "fbnetc_100", "ghostnet_100", "gmlp_s16_224",
    "hardcorenas_a", "hrnet_w18_small", "inception_v4", "lcnet_100", "levit_128", "mixer_s32_224", "mixnet_s",
    "mobilenetv4_conv_small", "mobileone_s0", "mobilevit_xxs", "pit_ti_224", "poolformer_s12", "pvt_v2_b0",
    "regnety_004", "repvgg_a0", "repvit_m0_9", "res2net50_26w_4s", "resmlp_12_224", "resnest26d", "resnetv2_50",
    "rexnet_100", "selecsls42", "skresnet18", "swin_tiny_patch4_window7_224", "tf_efficientnetv2_b0", "tinynet_a",
    "tnt_s_patch16_224", "twins_svt_small", "visformer_tiny", "vit_tiny_patch16_224", "vovnet39a", "xception41",
    "xcit_nano_12_p16_224",
)  # fmt: skip
#: What a network must lose to count as pruned.
_LEAST_REDUCTION = 0.2
_LIBRARIES = ("torch", "torchvision", "torch-pruning", "onnx", "onnxruntime")

HEAD = """# Coverage

Written by `make coverage` on {when} with {versions}.
Every classification architecture of torchvision and {timm} unlike ones of timm, with random weights, {classes} classes
and images of noise, small ones for torchvision's, go through checks in processes of their own:

- **prune_weights**: half of every layer's weights; the fraction of zeros.
- **prune_channels**: ratio {ratio} with the default `round_to` of 8; what is left of parameters and MACs. The network
  that its files rebuild answers the same, bit by bit, and ONNX Runtime runs its ONNX file in a clean process. Networks
  with attention or shuffled channels lose heads and what lies within their blocks only.
- **ONNX**: float32; a clean process with ONNX Runtime answers within 1e-3 of the largest logit. Megabytes of the file.
- **quantize_static**: to INT8 ONNX, which answers as the simulated network does, within 0.1 of the largest logit or as
  far as quantizing has moved that network's answers; the part of the multiply-accumulates that ONNX Runtime does in
  integers.
- **both**: prune_channels with ratio {half}, then quantize_static.

Of timm's, the first and the third check alone are made.

| | passed | refused by name | failed |
| --- | --- | --- | --- |
{summary}

Of torchvision's {known}, {tried} were tried; {pruned} lose at least {least:.0%} of their parameters (aim: 70).

| architecture | parameters | prune_weights | prune_channels | ONNX | quantize_static | both |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


class Row(Value):
    """What was found about one architecture."""

    name: str
    findings: tuple[Finding, ...]

    def finding(self, check: Check) -> Finding | None:
        """How the check went; none where it was not made, be it that its process ended before."""
        return next((finding for finding in self.findings if finding.check == check), None)


def tried(name: str, checks: Sequence[Check], *, seconds: float) -> Row:
    """Make these checks on one architecture, in a process that may take so long."""
    command = [sys.executable, "-m", "benchmarks.coverage_checks", name, *checks]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        output, why = done.stdout, f"the process ended with status {done.returncode}: {done.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired as expired:
        output, why = _text(expired.stdout), f"took more than {seconds:g} s"
    findings = [Finding.model_validate_json(line) for line in output.splitlines() if line.startswith("{")]
    missing = [check for check in checks if check not in {finding.check for finding in findings}]
    if missing:
        findings.append(Finding(check=missing[0], outcome="failed", detail=why))
    return Row(name=name, findings=tuple(findings))


def wanted(name: str) -> tuple[Check, ...]:
    """The checks that are made on an architecture."""
    return ("builds", "prune_channels") if name.startswith("timm/") else CHECKS


def _together(old: Row | None, new: Row) -> Row:
    """What was found before, and now; of what was tried twice, the last."""
    found = {finding.check: finding for row in (old, new) if row is not None for finding in row.findings}
    return Row(name=new.name, findings=tuple(found[check] for check in CHECKS if check in found))


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
        pruned=sum("/" not in row.name and _is_pruned(row.finding("prune_channels")) for row in rows),
        tried=sum("/" not in row.name for row in rows),
        timm=sum("/" in row.name for row in rows),
        ratio=RATIO,
        half=HALF,
        known=len(architectures()) - sum(library == "timm" for library, _ in architectures()),
        least=_LEAST_REDUCTION,
        rows="\n".join(_line(row) for row in rows),
    )
    reasons = [f"- {row.name}, {f.check}: {f.detail}" for row in rows for f in row.findings if f.outcome != "passed"]
    return head + ("\n## Reasons\n\n" + "\n".join(reasons) + "\n" if reasons else "")


def _is_pruned(finding: Finding | None) -> bool:
    return (
        finding is not None
        and finding.outcome == "passed"
        and finding.figures["parameters_left"] <= 1 - _LEAST_REDUCTION
    )


def _summary(check: Check, rows: list[Row]) -> str:
    outcomes = [finding.outcome for row in rows if (finding := row.finding(check)) is not None]
    return f"| {check} | " + " | ".join(str(outcomes.count(o)) for o in ("passed", "refused", "failed")) + " |"


def _line(row: Row) -> str:
    cells = (_cell(row.finding(check)) for check in CHECKS)
    return f"| {row.name} | " + " | ".join(cells) + " |"


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ""
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


def _all() -> list[str]:
    """Every name, small networks first."""
    names = [name for library, name in architectures() if library == "torchvision"]
    return sorted([*names, *(f"timm/{name}" for name in TIMM)], key=lambda name: named(name).parameters)


def main() -> None:
    """Try what is named, or else all that has not been tried, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=3600, help="what one architecture may take")
    parser.add_argument("--at-once", type=int, default=1, help="processes side by side")
    arguments = parser.parse_args()
    rows = kept()

    def missing(name: str) -> tuple[Check, ...]:
        done = {finding.check for finding in rows[name].findings} if name in rows else set()
        return tuple(check for check in wanted(name) if name in arguments.names or check not in done)

    names = [name for name in arguments.names or _all() if missing(name)]
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for row in pool.map(lambda name: tried(name, missing(name), seconds=arguments.seconds), names):
            rows[row.name] = _together(rows.get(row.name), row)
            keep(rows)
            print(_line(rows[row.name]), flush=True)
    print(f"Written to {PAGE}")


if __name__ == "__main__":
    main()
