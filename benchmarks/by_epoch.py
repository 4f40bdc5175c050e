"""How often a network is right after each epoch of its training, and a picture of several trainings."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import mean

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.trained import device, validation
from compressor.candidate import Candidate
from compressor.context import TrainingState
from compressor.measure.accuracy import accuracy, answers
from compressor.report.step_plots import name_ends
from compressor.report.style import ACCENT, BEFORE, STYLE
from compressor.training.state import module_of


class Judged:
    """Checkpoints that keep nothing but how often the network is right on the validation images."""

    def __init__(self, network: Candidate) -> None:
        self._judged = network.copied().module
        #: After each epoch that is done.
        self.accuracy: list[float] = []

    def resume(self) -> TrainingState | None:
        """Every training is done from its beginning."""
        return None

    def save(self, state: TrainingState) -> None:
        """Judge the weights as they are now."""
        self._judged.load_state_dict(module_of(state))
        self.accuracy.append(accuracy(answers(self._judged, validation(), device=device()), validation().labels).value)


def accuracy_by_epoch(trainings: Mapping[str, Sequence[Sequence[float]]], *, accented: str) -> Figure:
    """One curve for each name, which stands at its end: the mean over its seeds, within the span from least to most.

    The one that is meant lies above the others.
    """
    spans = {name: list(zip(*seeds, strict=True)) for name, seeds in trainings.items()}
    curves = {name: [mean(epoch) for epoch in span] for name, span in spans.items()}
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        axes = figure.subplots()
        dashes = cycle(("-", "--", ":", "-."))
        for name, curve in curves.items():
            meant = name == accented
            epochs = range(1, len(curve) + 1)
            least, most = (list(map(bound, spans[name])) for bound in (min, max))
            axes.fill_between(epochs, least, most, color=ACCENT if meant else BEFORE, alpha=0.15, linewidth=0, zorder=1)
            axes.plot(
                epochs, curve, color=ACCENT if meant else BEFORE, linewidth=1.8 if meant else 1.4,
                linestyle="-" if meant else next(dashes), marker="o", markersize=3.5, zorder=3 if meant else 2,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda part, _: f"{100 * part:g} %"))
        name_ends(axes, max(map(len, curves.values())), {name: curve[-1] for name, curve in curves.items()})
        axes.set_xlabel("epoch")
        axes.set_ylabel("right on validation images")
    return figure
