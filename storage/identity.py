"""Ids: a prefix that tells the kind, and a ULID that sorts by time."""

from enum import StrEnum

from ulid import LaxMonotonicPolicy, ULIDGenerator


class Kind(StrEnum):
    """The prefixes."""

    MODEL = "mdl"
    DATASET = "dat"
    JOB = "job"
    ARTIFACT = "art"


#: Ids made within one millisecond still sort in the order in which this process made them.
_generator = ULIDGenerator(policy=LaxMonotonicPolicy())


def new_id(kind: Kind) -> str:
    """A fresh id, later than all that this process has made."""
    return f"{kind}_{new_ulid()}"


def new_ulid() -> str:
    """A fresh ULID, 26 characters."""
    return str(_generator.generate())
