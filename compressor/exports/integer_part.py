"""How much of a network a runtime multiplies in integers."""

from collections.abc import Iterable


def integer_part(products: Iterable[tuple[int, bool]]) -> float:
    """The part, between 0 and 1, that the multiply-accumulates done in integers are of all of them."""
    found = list(products)
    total = sum(macs for macs, _ in found)
    return sum(macs for macs, in_integers in found if in_integers) / total if total else 0.0
