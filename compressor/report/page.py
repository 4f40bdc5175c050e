"""report.html: one page that needs nothing beside it, for people."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from compressor.report import words
from compressor.report.document import ReportDocument
from compressor.report.plots import accuracy_against_size, latency_bars, points
from compressor.report.step_plots import DRAWN, pictures
from compressor.report.style import svg
from contract.methods import Params
from contract.report import Measurement, Report

_FILTERS: Mapping[str, Callable[[Any], str]] = {
    "bytes": words.in_bytes,
    "short": words.in_short,
    "percent": words.in_percent,
    "points": words.in_points,
    "times": words.in_times,
    "ms": words.in_milliseconds,
    "seconds": words.in_seconds,
    "word": words.in_a_word,
}


@dataclass(frozen=True)
class Row:
    """A figure of the two ends."""

    name: str
    before: str
    after: str
    #: After over before, where less is better.
    ratio: float | None = None
    #: What is said in the ratio's place.
    change: str = ""


@dataclass(frozen=True)
class Headline:
    """One of the few figures that a reader sees first."""

    value: str
    unit: str
    name: str
    detail: str


def page(document: ReportDocument) -> str:
    """The whole page as HTML."""
    environment = Environment(
        loader=PackageLoader("compressor.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(_FILTERS)
    return environment.get_template("page.html").render(
        document=document,
        report=document.result.report,
        first={file.format: file.filename for file in reversed(document.files)},
        headlines=tuple(_headlines(document.result.report)),
        rows=tuple(_rows(document.result.report)),
        steps=tuple(zip(document.spec.steps, document.steps, strict=False)),
        settings=_settings,
        plots=_plots(document),
        drawn=DRAWN,
    )


def write_reports(document: ReportDocument, out: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `out`."""
    for_programs, for_people = out / "report.json", out / "report.html"
    for_programs.write_text(document.model_dump_json(indent=1) + "\n")
    for_people.write_text(page(document))
    return for_programs, for_people


def _settings(step: Params) -> str:
    """What a step was told, without what it would have done anyway."""
    told = step.model_dump(mode="json", exclude={"method"}, exclude_defaults=True)
    return " · ".join(f"{name} {words.in_a_word(value)}" for name, value in told.items())


def _headlines(report: Report) -> Iterator[Headline]:
    before, after, ratio = report.baseline, report.compressed, report.ratio
    detail = _from_to(words.in_bytes, before.size_bytes, after.size_bytes)
    yield Headline(*_factor(ratio.size_bytes, "smaller", "larger"), detail)
    if ratio.latency is not None and before.latency and after.latency:
        detail = _from_to(words.in_milliseconds, before.latency.p50_ms, after.latency.p50_ms)
        yield Headline(*_factor(ratio.latency, "faster", "slower"), detail)
    yield Headline(*_factor(ratio.macs, "fewer MACs", "more MACs"), _from_to(words.in_short, before.macs, after.macs))
    if report.drop is not None and before.accuracy and after.accuracy:
        detail = _from_to(words.in_percent, before.accuracy.value, after.accuracy.value)
        yield Headline(words.in_points(-report.drop.value), " pp", "accuracy", detail)


def _factor(ratio: float, better: str, worse: str) -> tuple[str, str, str]:
    factor, word = (1 / ratio, better) if ratio <= 1 else (ratio, worse)
    return f"{factor:.1f}" if factor < 100 else f"{factor:.0f}", "×", word


def _from_to(in_words: Callable[[float], str], before: float, after: float) -> str:
    return f"{in_words(before)} → {in_words(after)}"


def _rows(report: Report) -> Iterator[Row]:
    before, after = report.baseline, report.compressed
    yield from _quality_rows(report)
    yield _count("Size of the file", words.in_bytes, before.size_bytes, after.size_bytes)
    yield _count("Parameters", words.in_short, before.parameters, after.parameters)
    yield _count("Parameters that are not zero", words.in_short, before.nonzero_parameters, after.nonzero_parameters)
    yield _count("MACs for one image", words.in_short, before.macs, after.macs)
    yield from _speed_rows(before, after)


def _quality_rows(report: Report) -> Iterator[Row]:
    before, after, drop = report.baseline, report.compressed, report.drop
    if before.accuracy and after.accuracy and drop:
        low, high = (words.in_points(-bound) for bound in reversed(drop.ci95))
        change = f"{words.in_points(-drop.value)} pp ({low} to {high})"
        was, now = before.accuracy.value, after.accuracy.value
        yield Row("Top-1 accuracy", words.in_percent(was), words.in_percent(now), change=change)
    if before.loss is not None and after.loss is not None:
        change = words.in_change(after.loss - before.loss, digits=3)
        yield Row("Cross-entropy", f"{before.loss:.3f}", f"{after.loss:.3f}", change=change)
    if before.calibration_error is not None and after.calibration_error is not None:
        change = words.in_change(after.calibration_error - before.calibration_error, digits=3)
        was, now = before.calibration_error, after.calibration_error
        yield Row("Calibration error", f"{was:.3f}", f"{now:.3f}", change=change)
    if report.fidelity is not None:
        yield Row("Same answer as the original", "", words.in_percent(report.fidelity.top1_agreement))


def _speed_rows(before: Measurement, after: Measurement) -> Iterator[Row]:
    if before.latency and after.latency:
        for name in ("p50", "p90", "p99"):
            was, now = (getattr(latency, f"{name}_ms") for latency in (before.latency, after.latency))
            yield _count(f"Latency {name}", words.in_milliseconds, was, now)
    if before.load_seconds and after.load_seconds:
        yield _count("Time to load", words.in_seconds, before.load_seconds, after.load_seconds)
    if before.peak_memory_bytes and after.peak_memory_bytes:
        yield _count("Peak memory of the process", words.in_bytes, before.peak_memory_bytes, after.peak_memory_bytes)


def _count(name: str, in_words: Callable[[float], str], before: float, after: float) -> Row:
    return Row(name, in_words(before), in_words(after), ratio=after / before if before else None)


def _plots(document: ReportDocument) -> tuple[tuple[str, Markup], ...]:
    report, methods = document.result.report, [step.method for step in document.spec.steps]
    found = []
    path = points(report, methods[: len(document.steps)], document.steps)
    if len(path) > 1:
        found.append(("Accuracy against size", Markup(svg(accuracy_against_size(path)))))
    if report.baseline.latency and report.compressed.latency:
        bars = latency_bars(report.baseline.latency, report.compressed.latency)
        found.append(("Latency", Markup(svg(bars))))
    steps = zip(document.spec.steps, document.steps, strict=False)
    return (*found, *((caption, Markup(svg(picture))) for caption, picture in pictures(tuple(steps))))
