"""A job's figures as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from compressor.report.style import ACCENT, BEFORE, INK, PAPER, STYLE
from compressor.report.words import in_bytes
from contract.report import Accuracy, Latency, Report, StepReport


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
    with rc_context(STYLE):
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
    axes.plot(sizes, values, color=ACCENT, linewidth=1.6, zorder=2)
    axes.errorbar(sizes, values, yerr=errors, fmt="none", ecolor=BEFORE, elinewidth=1.2, zorder=1)
    axes.scatter(sizes, values, s=46, color=PAPER, edgecolor=ACCENT, linewidth=1.6, zorder=3)
    axes.scatter(sizes[-1:], values[-1:], s=62, color=ACCENT, zorder=4)


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
            color=INK,
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
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(9.6, 2.0), layout="constrained")
        axes = figure.subplots()
        rows = (("original", before, BEFORE), ("compressed", after, ACCENT))
        for place, (_, latency, colour) in enumerate(rows):
            axes.barh(place, latency.p99_ms, height=0.16, color=colour, alpha=0.35)
            axes.barh(place, latency.p90_ms, height=0.16, color=colour, alpha=0.6)
            axes.barh(place, latency.p50_ms, height=0.5, color=colour)
            text = f" {latency.p50_ms:.3g} ms"
            axes.annotate(text, (latency.p99_ms, place), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows], color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, max(before.p99_ms, after.p99_ms) * 1.18)
        axes.set_xlabel(f"milliseconds for a batch of {after.batch_size}: bar p50, thin p90 and p99")
    return figure
