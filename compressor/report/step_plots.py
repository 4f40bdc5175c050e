"""What single steps have found out, as pictures: layers before and after, weights by magnitude, losses and noise."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from pydantic import TypeAdapter

from compressor.report.style import ACCENT, BEFORE, INK, MUTED, STYLE
from compressor.report.words import in_short
from contract.methods import Params
from contract.report import (
    FactorizedLayer,
    Flips,
    Histogram,
    LayerReport,
    LayerSensitivity,
    QuantizationFidelity,
    Sensitivity,
    StepReport,
)
from contract.value import Json

#: Details of a step that are drawn, or stand in the table of layers, and not told in words.
DRAWN = frozenset({"histogram", "sensitivity", "importance", "output_error", "quantization", "factorized"})
#: What losses are of, by the detail that holds them: those of a training, and those of one on labels alone beside it.
_OWN: Mapping[str, str] = {"train_loss": "training", "held_out_loss": "held out"}
_ALONE: Mapping[str, str] = {
    "train_loss_without_teacher": "training, without teacher",
    "held_out_loss_without_teacher": "held out, without teacher",
}
_FACTORIZED = TypeAdapter(tuple[FactorizedLayer, ...])
#: Layers whose bars bear their names at most, and characters of a name.
_LABELS, _LONGEST = 48, 28
#: Layers whose curves bear their names: those that lose most.
_NAMED = 6
#: Classes whose flips are drawn: those with the largest part.
_CLASSES = 16
#: KL below this is none that anyone would see, in nats.
_LEAST_KL = 1e-5


def pictures(steps: Sequence[tuple[Params, StepReport]]) -> Iterator[tuple[str, Figure]]:
    """A caption and a picture for each step that has found out what can be drawn."""
    for step, report in steps:
        if any(_alive(layer) < _were(layer) for layer in report.layers):
            yield f"Layer by layer, before and after {step.method}", weights_by_layer(report.layers)
        if "histogram" in report.details:
            found = Histogram.model_validate(report.details["histogram"])
            yield f"Weights by magnitude, before and after {step.method}", weights_by_magnitude(found)
        if own := losses_of(report):
            yield f"Losses in {step.method}, epoch by epoch", losses_by_epoch(own)
        if compared := losses_on_labels(report):
            yield f"Losses on labels in {step.method}, with a teacher and without", losses_by_epoch(compared)
        if "sensitivity" in report.details:
            curves = Sensitivity.model_validate(report.details["sensitivity"])
            yield "What each layer can lose", loss_by_layer(curves)
        if "factorized" in report.details:
            made = _FACTORIZED.validate_python(report.details["factorized"])
            yield f"What {step.method} has made of layers", costs_by_layer(made)
        if "quantization" in report.details:
            near = QuantizationFidelity.model_validate(report.details["quantization"])
            yield f"How near {step.method} stays to the float network", noise_by_layer(near)


def _alive(layer: LayerReport) -> int:
    """Parameters that are not zeros of the weight."""
    return layer.parameters - round(layer.zeros * prod(layer.shape))


def _were(layer: LayerReport) -> int:
    was = layer.before
    return 0 if was is None else was.parameters - round(was.zeros * prod(was.shape))


def weights_by_layer(layers: Sequence[LayerReport]) -> Figure:
    """How many parameters each layer had and has, zeros not counted; above, the part that is left."""
    shown = [layer for layer in layers if _were(layer)]
    places = range(len(shown))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        above.bar(places, [100 * _alive(layer) / _were(layer) for layer in shown], color=ACCENT, width=0.7)
        above.set_ylabel("left, %")
        above.set_ylim(0, max(100.0, *(100 * _alive(layer) / _were(layer) for layer in shown)))
        below.bar(places, [_were(layer) for layer in shown], color=BEFORE, width=0.7, label="before")
        below.bar(places, [_alive(layer) for layer in shown], color=ACCENT, width=0.7, label="after")
        below.set_ylabel("parameters, zeros not counted")
        below.yaxis.set_major_formatter(FuncFormatter(lambda count, _: in_short(count)))
        below.legend(frameon=False, loc="upper left")
        _name_places(below, [layer.name for layer in shown])
    return figure


def costs_by_layer(layers: Sequence[FactorizedLayer]) -> Figure:
    """The MACs of each factorized layer, before and after; above, the part of its output that is lost."""
    places = range(len(layers))
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        above.bar(places, [100 * (1 - layer.kept) for layer in layers], color=ACCENT, width=0.7)
        above.set_ylabel("output lost, %")
        below.bar(places, [layer.macs[0] for layer in layers], color=BEFORE, width=0.7, label="before")
        below.bar(places, [layer.macs[1] for layer in layers], color=ACCENT, width=0.7, label="after")
        below.set_ylabel("MACs")
        below.yaxis.set_major_formatter(FuncFormatter(lambda count, _: in_short(count)))
        below.legend(frameon=False, loc="upper left")
        _name_places(below, [f"{layer.name} ({layer.scheme})" for layer in layers])
    return figure


def _name_places(axes: Axes, names: Sequence[str]) -> None:
    """Names below the bars, upright; where there are too many for all, every second, third and so on."""
    every = -(-len(names) // _LABELS)
    axes.set_xticks(range(0, len(names), every), [_shortened(name) for name in names[::every]], rotation=90, fontsize=8)
    axes.set_xlim(-0.8, len(names) - 0.2)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST + 1 :]}"


def weights_by_magnitude(found: Histogram) -> Figure:
    """How many weights are how large, before and after; what is exactly zero stands at the left."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        axes = figure.subplots()
        starts, ends = found.edges[:-1], found.edges[1:]
        widths = [end - start for start, end in zip(starts, ends, strict=True)]
        axes.bar(starts, found.before, widths, align="edge", color=BEFORE, label="before")
        axes.bar(starts, found.after, widths, align="edge", color=ACCENT, alpha=0.75, label="after")
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        if found.threshold:
            axes.axvline(found.threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
            _note(axes, "threshold", found.threshold)
        total = sum(found.after) + found.zeros_after
        axes.set_xlabel(
            f"magnitude, logarithmic; exactly zero: {found.zeros_before / max(1, total):.1%} before, "
            f"{found.zeros_after / max(1, total):.1%} after"
        )
        axes.set_ylabel("weights")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: in_short(count)))
        axes.legend(frameon=False, loc="upper left")
    return figure


def _note(axes: Axes, text: str, x: float) -> None:
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(5, -4),
        textcoords="offset points",
        va="top",
        color=INK,
    )


def losses_of(report: StepReport) -> dict[str, list[float]]:
    """The losses of a training by what they are of, where it had more than one epoch."""
    return _curves({name: report.details.get(key) for key, name in _OWN.items()})


def losses_on_labels(report: StepReport) -> dict[str, list[float]]:
    """Cross-entropies of labels with a teacher and without, where the same student was trained without one too.

    With a teacher the loss of a training is that of what the teacher says as well, and nothing to compare.
    """
    alone = _curves({name: report.details.get(key) for key, name in _ALONE.items()})
    if not alone:
        return {}
    terms = report.details.get("terms")
    labels = terms.get("labels") if isinstance(terms, dict) else None
    return _curves({"training": labels, "held out": report.details.get("held_out_loss")}) | alone


def _curves(found: Mapping[str, Json]) -> dict[str, list[float]]:
    curves = {n: [float(x) for x in v if isinstance(x, int | float)] for n, v in found.items() if isinstance(v, list)}
    return {name: curve for name, curve in curves.items() if len(curve) > 1}


def losses_by_epoch(curves: Mapping[str, Sequence[float]]) -> Figure:
    """One curve for what was trained on, others for what was held out, and for the same without a teacher."""
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.plot(
                range(1, len(curve) + 1), curve, label=name, marker="o", markersize=3.5,
                color=BEFORE if "without" in name else ACCENT, linestyle="--" if "held out" in name else "-",
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("mean loss")
        axes.legend(frameon=False)
    return figure


def loss_by_layer(found: Sensitivity) -> Figure:
    """One curve a layer: how far the answers move as more of it goes; those that move most are named."""
    worst = sorted(found.layers, key=lambda layer: -layer.kl[-1])[:_NAMED]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        axes = figure.subplots()
        for layer in found.layers:
            named = layer in worst
            axes.plot(
                found.amounts, _seen(layer), color=ACCENT if named else BEFORE, linewidth=1.6 if named else 1.0,
                marker="o", markersize=3.5, zorder=3 if named else 2,
            )  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xticks(list(found.amounts), [f"{100 * amount:g} %" for amount in found.amounts])
        name_ends(axes, found.amounts[-1], {layer.name: _seen(layer)[-1] for layer in worst})
        axes.set_xlabel("part of the layer that is pruned, all others whole")
        axes.set_ylabel("KL to the original's answers, nats")
    return figure


def _seen(layer: LayerSensitivity) -> list[float]:
    return [max(_LEAST_KL, kl) for kl in layer.kl]


def name_ends(axes: Axes, x: float, ends: Mapping[str, float]) -> None:
    """Names at the right of curves, one above the other where the curves end close together."""
    axes.autoscale_view()
    place = float("-inf")
    for name, end in sorted(ends.items(), key=lambda item: item[1]):
        y = axes.transData.transform((x, end))[1]
        shift = max(0.0, place + 11 - y)
        place = y + shift
        axes.annotate(
            name, (x, end), xytext=(8, shift * 72 / axes.figure.dpi), textcoords="offset points", va="center",
            color=MUTED, annotation_clip=False,
        )  # fmt: skip


def noise_by_layer(found: QuantizationFidelity) -> Figure:
    """Signal to noise of what each layer gives; beside it the classes of which answers changed, where some did."""
    layers = [layer for layer in found.layers if layer.sqnr_db is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 3.8), layout="constrained")
        left, *right = figure.subplots(1, 2, width_ratios=(3, 1)) if found.flips else (figure.subplots(),)
        left.bar(range(len(layers)), [layer.sqnr_db or 0.0 for layer in layers], color=ACCENT, width=0.7)
        left.set_ylabel("signal to noise, dB")
        left.set_title(
            f"on {found.images} calibration images: same answer {found.top1_agreement:.1%}, KL {found.kl:.2g} nats",
            loc="left", color=MUTED,
        )  # fmt: skip
        _name_places(left, [layer.name for layer in layers])
        for axes in right:
            _draw_flips(axes, found.flips)
    return figure


def _draw_flips(axes: Axes, flips: Sequence[Flips]) -> None:
    shown = sorted(flips, key=lambda one: one.flipped / one.images)[-_CLASSES:]
    axes.barh(range(len(shown)), [100 * one.flipped / one.images for one in shown], color=BEFORE, height=0.7)
    axes.set_yticks(range(len(shown)), [_shortened(one.name) for one in shown], fontsize=8)
    axes.set_xlabel("answers changed, %")
