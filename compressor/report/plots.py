"""A job's figures as pictures: SVG that takes the page's colours, and PNG for everywhere else."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from matplotlib.typing import RcKeyType

from compressor.report.words import in_bytes
from contract.report import Accuracy, Latency, Report, StepReport

#: By role: what the picture itself bears, and what a page's style sheet calls it.
_INK, _MUTED, _LINE, _ACCENT, _BEFORE = "#1d1b18", "#77726a", "#dfdad2", "#0b6e5f", "#b9b2a6"
_PAPER = "#ffffff"
_VARIABLES: Mapping[str, str] = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _BEFORE: "var(--before)",
    _PAPER: "var(--card)",
}
_STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    # Text stays text, so that the page's own font and colours apply.
    "svg.fonttype": "none",
    "svg.hashsalt": "modelpress",
}


@dataclass(frozen=True)
class Point:
    """One state of the model in the plot of accuracy against size."""

    label: str
    size_bytes: int
    accuracy: Accuracy


def points(report: Report, methods: Sequence[str], steps: Sequence[StepReport]) -> tuple[Point, ...]:
    """The original, the state after each step, and the delivered file; without evaluation data there are none."""
    states = [
        ("original", report.baseline),
        *((method, step.measurement) for method, step in zip(methods, steps, strict=True)),
        ("delivered", report.compressed),
    ]
    return tuple(Point(label, m.size_bytes, m.accuracy) for label, m in states if m.accuracy is not None)


def accuracy_against_size(path: Sequence[Point]) -> Figure:
    """The way of the model from the original to the delivered file; smaller is to the right."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 4.0), layout="constrained")
        axes = figure.subplots()
        _draw_path(axes, path)
        _label_points(axes, path)
        _frame_sizes(axes, path)
    return figure


def _draw_path(axes: Axes, path: Sequence[Point]) -> None:
    sizes = [point.size_bytes for point in path]
    values = [100 * point.accuracy.value for point in path]
    errors = [
        [100 * (point.accuracy.value - point.accuracy.ci95[0]) for point in path],
        [100 * (point.accuracy.ci95[1] - point.accuracy.value) for point in path],
    ]
    axes.plot(sizes, values, color=_ACCENT, linewidth=1.6, zorder=2)
    axes.errorbar(sizes, values, yerr=errors, fmt="none", ecolor=_BEFORE, elinewidth=1.2, zorder=1)
    axes.scatter(sizes, values, s=46, color=_PAPER, edgecolor=_ACCENT, linewidth=1.6, zorder=3)
    axes.scatter(sizes[-1:], values[-1:], s=62, color=_ACCENT, zorder=4)


def _label_points(axes: Axes, path: Sequence[Point]) -> None:
    # Neighbours lie close together where a step changes little, so labels go above and below in turn.
    for place, point in enumerate(path):
        above = place % 2 == 0
        axes.annotate(
            point.label,
            (point.size_bytes, 100 * (point.accuracy.ci95[1] if above else point.accuracy.ci95[0])),
            xytext=(0, 7 if above else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            color=_INK,
        )


def _frame_sizes(axes: Axes, path: Sequence[Point]) -> None:
    sizes = sorted({point.size_bytes for point in path})
    axes.set_xscale("log")
    axes.set_xlim(sizes[-1] * 1.7, sizes[0] / 1.7)
    axes.set_xticks(_apart(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: in_bytes(size)))
    axes.margins(y=0.22)
    # Room for labels lies beyond 0 and 100 %, where no gridline has a meaning.
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_xlabel("size of the file, logarithmic: smaller to the right")
    axes.set_ylabel("top-1 accuracy")


def _apart(sizes: Sequence[int]) -> list[int]:
    """Sizes whose labels do not touch on a logarithmic axis."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size > kept[-1] * 1.35:
            kept.append(size)
    return kept


def latency_bars(before: Latency, after: Latency) -> Figure:
    """p50, p90 and p99 of the two ends, side by side."""
    with rc_context(_STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.6, 2.0), layout="constrained")
        axes = figure.subplots()
        rows = (("original", before, _BEFORE), ("compressed", after, _ACCENT))
        for place, (_, latency, colour) in enumerate(rows):
            axes.barh(place, latency.p99_ms, height=0.16, color=colour, alpha=0.35)
            axes.barh(place, latency.p90_ms, height=0.16, color=colour, alpha=0.6)
            axes.barh(place, latency.p50_ms, height=0.5, color=colour)
            text = f" {latency.p50_ms:.3g} ms"
            axes.annotate(text, (latency.p99_ms, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows], color=_INK)
        axes.invert_yaxis()
        axes.set_xlim(0, max(before.p99_ms, after.p99_ms) * 1.18)
        axes.set_xlabel(f"milliseconds for a batch of {after.batch_size}: bar p50, thin p90 and p99")
    return figure


def svg(figure: Figure) -> str:
    """The figure as an SVG element whose colours and fonts are those of the page around it."""
    text = io.StringIO()
    with rc_context(_STYLE):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    # Names of groups: two pictures on one page would have them twice.
    element = re.sub(r' id="[\w.]+_\d+"', "", element)
    element = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", element)
    for colour, variable in _VARIABLES.items():
        element = element.replace(colour, variable)
    return element


def write_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG on white, twice as fine as a screen."""
    figure.set_facecolor(_PAPER)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=200, metadata={"Software": None})
