"""Which architecture to use for a budget: the most accurate one that fits, counted as it would be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from contract.architecture import ArchitectureCard, Stem, catalogue
from contract.cost import InputShape
from contract.failures import NothingFits
from contract.methods.replace import Budget

#: How many that fit too, and how many that nearly do, are told.
_TOLD = 3


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

    Figures are those of the network with the head and the stem that it would have. Raises `NothingFits`, naming what
    comes closest.
    """
    cards = _by_accuracy(use)
    offers = [offer for card in cards if (offer := _offer(card)) is not None]
    fitting = [offer for offer in offers if offer.miss(budget) <= 1]
    if not fitting:
        raise NothingFits(_nearest(offers, budget, use), pointer="/budget")
    chosen = fitting[0]
    too_costly = offers[: offers.index(chosen)]
    better = takewhile(lambda card: card.name != chosen.name, cards)
    return Advice(
        chosen=chosen,
        why=_why(chosen, too_costly[-1] if too_costly else None, budget),
        runners_up=tuple(fitting[1 : 1 + _TOLD]),
        too_costly=tuple(offer.name for offer in too_costly),
        not_for_the_input=tuple(card.name for card in better if card.macs is None),
    )


def _by_accuracy(use: Use) -> list[ArchitectureCard]:
    """Those with a published accuracy, best first."""
    cards = [
        entry.card(use.input_shape, num_classes=use.num_classes, stem=use.stem)
        for entry in catalogue()
        if entry.published_accuracy is not None
    ]
    return sorted(cards, key=lambda card: (-(card.published_accuracy or 0.0), card.name))


def _offer(card: ArchitectureCard) -> Offer | None:
    """None where it does not take such images."""
    if card.macs is None:
        return None
    return Offer(card.name, card.published_accuracy or 0.0, card.parameters, card.macs, card.size_bytes)


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


def _nearest(offers: Sequence[Offer], budget: Budget, use: Use) -> str:
    """The failure's sentence: what exceeds the budget least, and by how much."""
    nearest = sorted(offers, key=lambda offer: offer.miss(budget))[:_TOLD]
    shape = "x".join(map(str, use.input_shape))
    return (
        f"No architecture for images of {shape} and {use.num_classes} classes fits {_limits(budget)}. Closest: "
        f"{'; '.join(_described(offer, budget) for offer in nearest) or 'none takes such images'}."
    )


def _described(offer: Offer, budget: Budget) -> str:
    return (
        f"{offer.name} with {offer.parameters:,} parameters, {offer.macs:,} MACs and {offer.size_bytes:,} bytes, "
        f"{offer.miss(budget):.2f} times the limit that it misses most"
    )
