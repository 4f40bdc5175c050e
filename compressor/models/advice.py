"""Which architecture to use for a budget: the most accurate one that fits, counted as it would be used."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

from compressor.measure.counting import count_macs, count_parameters
from compressor.measure.file_size import safetensors_bytes
from compressor.models.architectures import build_hollow, width_of_logits
from compressor.models.replacement import Stem, adapted, with_classes
from contract.architecture import SIDES, ArchitectureEntry, Cost, InputShape, catalogue
from contract.failures import InvalidArchitecture, NothingFits
from contract.methods.replace import Budget
from contract.model import Architecture

#: How many that fit too, and how many that nearly do, are told.
_TOLD = 3
#: Classes of the networks in the catalogue.
_CLASSES = 1000


@dataclass(frozen=True)
class Use:
    """What an architecture shall work on."""

    input_shape: InputShape
    num_classes: int
    stem: Stem


@dataclass(frozen=True)
class Offer:
    """An architecture with what it costs in this use, and the accuracy on ImageNet that is published for it."""

    name: str
    published_accuracy: float
    parameters: int
    macs: int
    size_bytes: int

    def miss(self, budget: Budget) -> float:
        """By what factor it exceeds the limit that it exceeds most; at most 1 where it fits."""
        limits = [
            (self.parameters, budget.max_parameters), (self.macs, budget.max_macs),
            (self.size_bytes, budget.max_size_bytes),
        ]  # fmt: skip
        return max(figure / limit for figure, limit in limits if limit is not None)


@dataclass(frozen=True)
class Advice:
    """What to use, and what else was looked at."""

    chosen: Offer
    #: Why that one, in a sentence or two.
    why: str
    #: The next ones that fit, best first.
    runners_up: tuple[Offer, ...]
    #: More accurate, and above the budget.
    too_costly: tuple[str, ...]
    #: More accurate, and not for such images.
    not_for_the_input: tuple[str, ...]


def advise(budget: Budget, use: Use) -> Advice:
    """The architecture with the highest published accuracy that fits, and those behind it.

    Parameters, multiply-accumulates and bytes are counted on the network with the head and the stem that it would have.
    Raises `NothingFits`, naming what comes closest.
    """
    fitting: list[Offer] = []
    costly: list[str] = []
    unfit: list[str] = []
    for entry in _by_accuracy():
        if _is_refused(entry, use):
            unfit.append(entry.name)
        elif _surely_above(entry, budget, use) or (offer := _within(entry.name, budget, use)) is None:
            costly.append(entry.name)
        else:
            fitting.append(offer)
        if len(fitting) > _TOLD:
            break
    if not fitting:
        raise NothingFits(_nearest(budget, use), pointer="/budget")
    better = {entry.name for entry in takewhile(lambda entry: entry.name != fitting[0].name, _by_accuracy())}
    too_costly = tuple(name for name in costly if name in better)
    return Advice(
        chosen=fitting[0],
        why=_why(fitting[0], offered(too_costly[-1], use) if too_costly else None, budget),
        runners_up=tuple(fitting[1:]),
        too_costly=too_costly,
        not_for_the_input=tuple(name for name in unfit if name in better),
    )


def _why(chosen: Offer, next_better: Offer | None, budget: Budget) -> str:
    """What speaks for it, and what the next more accurate one, which is too costly, would take."""
    found = f"Of what fits {_limits(budget)}, {_told(chosen)} is the most accurate on ImageNet."
    if next_better is None:
        return found
    return (
        f"{found} The next more accurate, {_told(next_better)}, takes {next_better.miss(budget):.2f} times the limit "
        "that it misses most."
    )


def _told(offer: Offer) -> str:
    return f"{offer.name} ({offer.published_accuracy:.1%})"


def _limits(budget: Budget) -> str:
    return ", ".join(f"{name} {limit:,}" for name, limit in budget if isinstance(limit, int))


def _is_refused(entry: ArchitectureEntry, use: Use) -> bool:
    """Whether the architecture does not take such images."""
    _, height, width = use.input_shape
    if height == width and height in SIDES:
        return _cost(entry, use).macs_at(height) is None
    return offered(entry.name, replace(use, stem="keep")) is None


def _within(name: str, budget: Budget, use: Use) -> Offer | None:
    """The architecture's offer where it fits the budget; one that is above it as it is needs no stem to be seen."""
    for stem in dict.fromkeys(("keep", use.stem)):
        offer = offered(name, replace(use, stem=stem))
        if offer is None or offer.miss(budget) > 1:
            return None
    return offer


@lru_cache(maxsize=1024)
def offered(name: str, use: Use) -> Offer | None:
    """What one of torchvision's architectures costs in this use; None where it does not take such images."""
    accuracy = next(entry.published_accuracy for entry in _by_accuracy() if entry.name == name)
    architecture = with_classes(Architecture(name=name), use.num_classes)
    try:
        module = build_hollow(architecture, in_channels=use.input_shape[0]).to("meta").eval()
        width_of_logits(module, use.input_shape)
    except InvalidArchitecture:
        return None
    adapted(module, use.input_shape, use.stem)
    return Offer(
        name=name,
        published_accuracy=accuracy or 0.0,
        parameters=count_parameters(module),
        macs=count_macs(module, use.input_shape).total,
        size_bytes=safetensors_bytes(module),
    )


def _by_accuracy() -> list[ArchitectureEntry]:
    published = [entry for entry in catalogue() if entry.published_accuracy is not None]
    return sorted(published, key=lambda entry: (-(entry.published_accuracy or 0.0), entry.name))


def _surely_above(entry: ArchitectureEntry, budget: Budget, use: Use) -> bool:
    """Whether the catalogue's figures, less the head of 1000 classes that is in them, exceed the budget already.

    Multiply-accumulates grow with the image, and a stem for small images only adds to them.
    """
    cost, per_class = _cost(entry, use), entry.parameters_per_class or 0
    parameters = cost.parameters - (_CLASSES - use.num_classes) * per_class
    most = [limit for limit in (budget.max_parameters, (budget.max_size_bytes or 0) // 4) if limit]
    if most and parameters > min(most):
        return True
    macs, side = _macs_at_least(cost, min(use.input_shape[1:]))
    # SqueezeNet has its head at every position of its last map, of which there are fewer than (side / 14) ^ 2.
    positions = (side / 14) ** 2 if entry.name.startswith("squeezenet") else 1
    return budget.max_macs is not None and macs - _CLASSES * per_class * positions > budget.max_macs


def _cost(entry: ArchitectureEntry, use: Use) -> Cost:
    return entry.rgb if use.input_shape[0] == 3 or entry.gray is None else entry.gray


def _macs_at_least(cost: Cost, side: int) -> tuple[int, int]:
    """Of the largest image in the catalogue that is no larger than this one, and its side; 0 where there is none."""
    known = [(macs, at) for macs, at in zip(cost.macs, SIDES, strict=True) if at <= side and macs is not None]
    return known[-1] if known else (0, 0)


def _nearest(budget: Budget, use: Use) -> str:
    """The failure's sentence: what exceeds the budget least, and by how much."""
    taking = [entry for entry in _by_accuracy() if not _is_refused(entry, use)]
    small = sorted(taking, key=lambda entry: _estimate(entry, budget, use))[: _TOLD * 3]
    offers = [offer for entry in small if (offer := offered(entry.name, use)) is not None]
    nearest = sorted(offers, key=lambda offer: offer.miss(budget))[:_TOLD]
    shape = "x".join(map(str, use.input_shape))
    return (
        f"No architecture for images of {shape} and {use.num_classes} classes fits {_limits(budget)}. Closest: "
        f"{'; '.join(_described(offer, budget) for offer in nearest) or 'none takes such images'}."
    )


def _estimate(entry: ArchitectureEntry, budget: Budget, use: Use) -> float:
    cost = _cost(entry, use)
    macs, _ = _macs_at_least(cost, min(use.input_shape[1:]))
    figures = Offer(entry.name, 0.0, cost.parameters, macs, cost.size_bytes)
    return figures.miss(budget)


def _described(offer: Offer, budget: Budget) -> str:
    return (
        f"{offer.name} with {offer.parameters:,} parameters, {offer.macs:,} MACs and {offer.size_bytes:,} bytes, "
        f"{offer.miss(budget):.2f} times the limit that it misses most"
    )
