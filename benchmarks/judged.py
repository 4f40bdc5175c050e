"""Rows of accuracy, each a target of its own: how a network is made, and what it is compared with.

A page does the rows that are missing, so it goes on where it was stopped; named ones are done anew. With `--at-once`
several are done side by side, as a GPU or many cores allow.
"""

import argparse
import importlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.trained import SHARED, device, machine, original, validation
from compressor.candidate import Candidate
from compressor.format import runtime_of
from compressor.measure.accuracy import answers, loss, paired_drop
from compressor.measure.counting import count_macs, zeros
from compressor.measure.fidelity import divergence
from compressor.models import files
from compressor.quantization.simulate import simulated
from contract.host import cores
from contract.report import PairedDrop

#: The answers by which rows are compared are made again where they are missing.
ANSWERS = Path(__file__).parent / "scratch"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of one row."""

    name: str
    accuracy: float
    reference: str
    difference: float
    low: float
    high: float
    margin: float | None
    loss: float
    kl: float
    macs: float
    #: Unknown of files that others have made.
    zeros: float | None
    seconds: float
    #: Bytes of model.safetensors over those of the original's; unknown in rows of earlier days.
    size: float | None = None
    #: How often it was right after each epoch of its training, where that was looked at.
    by_epoch: Sequence[float] = ()
    #: What it was trained and asked on; unknown in rows of earlier days.
    machine: str = ""

    def line(self) -> str:
        """The row as Markdown."""
        verdict = "" if self.margin is None else "met" if 100 * self.low >= self.margin else "**MISSED**"
        margin = "" if self.margin is None else f"{self.margin:+.1f}"
        difference, low, high = (100 * part for part in (self.difference, self.low, self.high))
        return (
            f"| {self.name} | {self.accuracy:.2%} | {self.reference} | {difference:+.2f} ({low:+.2f} to {high:+.2f}) "
            f"| {margin} | {verdict} | {self.loss:.3f} | {self.kl:.4f} | {self.macs:.3f} "
            f"| {'' if self.zeros is None else f'{self.zeros:.1%}'} "
            f"| {'' if self.size is None else f'{self.size:.4f}'} | {self.seconds:.0f} | {self.machine} |"
        )


@dataclass(frozen=True)
class Taught:
    """A network, and how often it was right after each epoch of its training."""

    network: Candidate
    by_epoch: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One target: how a network is made, and what it is compared with."""

    model: str
    #: From the trained network to what came of it, or to a file that others have made of it.
    make: Callable[[Candidate], Candidate | Taught | Path]
    #: Another row's name; the network as it came where it is empty.
    reference: str = ""
    margin: float | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The rows whose answers it needs."""
        return frozenset({self.reference} if self.reference else ())


@dataclass(frozen=True, kw_only=True)
class Beside:
    """One target: a network that another row makes, beside another reference than that row's."""

    row: str
    reference: str
    margin: float

    @property
    def needs(self) -> frozenset[str]:
        """The rows whose answers it needs."""
        return frozenset({self.row, self.reference})


TITLE = """| row | accuracy | to | difference | margin | | loss | KL | MACs | zeros | size | seconds | on |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Page:
    """Rows that are written onto one page."""

    #: Of the page and, in small letters, of the file that is kept beside it.
    name: str
    #: Markdown before the table; `{made}` stands for when and on what.
    head: str
    #: All of them, in order.
    rows: Mapping[str, Row | Beside]
    #: Rows that are done only where they are named.
    on_request: frozenset[str] = frozenset()

    @property
    def path(self) -> Path:
        """The page."""
        return Path(__file__).parent / f"{self.name}.md"

    @property
    def _kept(self) -> Path:
        return self.path.with_name(f"{self.name.lower()}.json")

    def measured(self, name: str, found: Mapping[str, Found]) -> Found:
        """What one row finds; what others have `found` is not done anew."""
        row = self.rows[name]
        if isinstance(row, Row):
            return self._made(name, row)
        own = found[row.row] if row.row in found else self.measured(row.row, found)
        drop = paired_drop(self._answers(row.reference), self._answers(row.row), validation().labels)
        difference, low, high = _gain(drop)
        return replace(
            own, name=name, reference=row.reference, difference=difference, low=low, high=high, margin=row.margin
        )

    def _made(self, name: str, row: Row) -> Found:
        """Make the network of one row and compare it; its answers are kept for the rows that refer to it."""
        start = original(row.model)
        before = answers(start.module, validation(), device=device())
        macs = count_macs(start.module, start.input_shape).total
        size = _size(start)
        began = time.monotonic()
        given = row.make(start)
        seconds = time.monotonic() - began
        made = given.network if isinstance(given, Taught) else given
        logits, labels = _logits(made), validation().labels
        torch.save(logits, _answers_of(name))
        drop = paired_drop(self._answers(row.reference) if row.reference else before, logits, labels)
        difference, low, high = _gain(drop)
        return Found(
            name=name,
            accuracy=float((logits.argmax(1) == labels).double().mean()),
            reference=row.reference or "the original",
            difference=difference,
            low=low,
            high=high,
            margin=row.margin,
            loss=loss(logits, labels),
            kl=divergence(before, logits),
            macs=count_macs(made.module, made.input_shape).total / macs if isinstance(made, Candidate) else 1.0,
            zeros=zeros(made.module) if isinstance(made, Candidate) else None,
            size=_size(made) / size if isinstance(made, Candidate) else None,
            seconds=seconds,
            by_epoch=given.by_epoch if isinstance(given, Taught) else (),
            machine=machine(),
        )

    def _unanswered(self, names: Set[str]) -> set[str]:
        """What these need, so far as its answers are not there."""
        return {need for name in names for need in self.rows[name].needs if not _answers_of(need).exists()}

    def _answers(self, name: str) -> Tensor:
        """What the network of another row answers."""
        if not _answers_of(name).exists():
            self.measured(name, {})
        answered: Tensor = torch.load(_answers_of(name), weights_only=True)
        return answered

    def kept(self) -> dict[str, Found]:
        """What earlier calls have found."""
        if not self._kept.exists():
            return {}
        return {name: Found(**row) for name, row in json.loads(self._kept.read_text()).items()}

    def keep(self, found: Mapping[str, Found]) -> None:
        """Write it, for the reader and for the next call."""
        self._kept.write_text(json.dumps({name: asdict(row) for name, row in found.items()}, indent=1))
        made = str(datetime.now(UTC).date())
        lines = [found[name].line() for name in self.rows if name in found]
        told = ["", *spreads] if (spreads := _spreads(found)) else []
        self.path.write_text(self.head.format(made=made) + TITLE + "\n".join([*lines, *told]) + "\n")

    def main(self, about: str | None) -> None:
        """Do the rows that are named on the command line, or else all that have not been done."""
        parser = argparse.ArgumentParser(description=about)
        parser.add_argument("names", nargs="*", metavar="ROW", help=", ".join(self.rows))
        parser.add_argument("--at-once", type=int, default=1, metavar="N", help="rows done side by side (default: 1)")
        given = parser.parse_args()
        if not SHARED.exists():
            parser.error(f"there are no networks and images at {SHARED}")
        ANSWERS.mkdir(exist_ok=True)
        found = self.kept()
        missing = [name for name in self.rows if name not in found and name not in self.on_request]
        for row in self._done(given.names or missing, found, at_once=given.at_once):
            found[row.name] = row
            self.keep(found)
            print("\r" + row.line())
        print(f"Written to {self.path}")

    def _done(self, names: Sequence[str], found: Mapping[str, Found], *, at_once: int) -> Iterator[Found]:
        if at_once == 1:
            yield from (self.measured(name, found) for name in names)
            return
        module = f"benchmarks.{self.name.lower()}"
        with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as processes:
            for wave in self._waves(names):
                rows = [processes.submit(_measured, module, name, found, cores() // at_once) for name in wave]
                yield from (row.result() for row in as_completed(rows))

    def _waves(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Rows that can be done side by side, behind all that they need and whose answers are not there."""
        left = set(names)
        while needed := self._unanswered(left) - left:
            left |= needed
        while left:
            wave = [name for name in self.rows if name in left and not self.rows[name].needs & left]
            yield wave
            left.difference_update(wave)


def _measured(module: str, name: str, found: Mapping[str, Found], threads: int) -> Found:
    """One row of a module's page, in a process of its own."""
    torch.set_num_threads(max(1, threads))
    page: Page = importlib.import_module(module).PAGE
    return page.measured(name, found)


def _spreads(found: Mapping[str, Found]) -> list[str]:
    """A line for each row that was done with several seeds, told by numbers behind colons, on how they differ."""
    seeds: dict[str, list[Found]] = {}
    for name, row in found.items():
        seeds.setdefault(seedless(name), []).append(row)
    return [_spread(name, rows) for name, rows in seeds.items() if len(rows) > 1]


def seedless(name: str) -> str:
    """The name of a row without the number of its seed."""
    return name.partition(":")[0]


def _spread(name: str, rows: Sequence[Found]) -> str:
    differences = [100 * row.difference for row in rows]
    return (
        f"- {name}, {len(rows)} seeds: {mean(100 * row.accuracy for row in rows):.2f} %, to "
        f"{seedless(rows[0].reference)} {mean(differences):+.2f} ({min(differences):+.2f} to {max(differences):+.2f}, "
        f"standard deviation {stdev(differences):.2f}){_pooled(rows)}"
    )


def _pooled(rows: Sequence[Found]) -> str:
    """Whether the mean over seeds keeps the margin.

    All seeds are asked the same images, so that their errors are not independent: the mean's lower bound is at least
    the mean of theirs, whatever the correlation.
    """
    margin = rows[0].margin
    if margin is None:
        return ""
    low = mean(100 * row.low for row in rows)
    return f"; not below {low:+.2f}, margin {margin:+.1f}: {'met' if low >= margin else '**MISSED**'}"


def _gain(drop: PairedDrop) -> tuple[float, float, float]:
    """What is lost as what is gained, which is mostly negative, with its bounds."""
    return -drop.value, -drop.ci95[1], -drop.ci95[0]


def _logits(made: Candidate | Path) -> Tensor:
    if isinstance(made, Candidate):
        return answers(simulated(made), validation(), device=device())
    run = runtime_of(made).open_file(made, cores())
    return torch.cat([torch.from_numpy(run(batch.x.numpy())) for batch in validation().batches(64)])


def _size(candidate: Candidate) -> int:
    """Bytes of the network's file."""
    with TemporaryDirectory() as name:
        files.write(candidate, Path(name))
        return Path(name, files.WEIGHTS).stat().st_size


def _answers_of(name: str) -> Path:
    return ANSWERS / f"answers-{name.replace(':', '-')}.pt"
