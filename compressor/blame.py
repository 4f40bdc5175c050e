"""Whose fault a failure is, and what it comes down to."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from contract.failures import Failure, Fault

#: Where in a library's sources something went wrong.
_SOURCE = re.compile(r"\.[ch]pp:\d+")


@contextmanager
def blaming(index: int) -> Iterator[None]:
    """Whatever fails in here is the step's fault: the failure says so, with a pointer into the spec."""
    try:
        yield
    except Failure as failure:
        failure.at_step(index)
        failure.errors = tuple(_within(index, fault) for fault in failure.errors) or (
            Fault(pointer=f"/steps/{index}", code=failure.code, detail=failure.detail),
        )
        raise


def _within(index: int, fault: Fault) -> Fault:
    if fault.pointer.startswith("/steps/"):
        return fault
    return fault.model_copy(update={"pointer": f"/steps/{index}{fault.pointer}"})


def cause(error: BaseException) -> str:
    """The innermost reason, in one line: without an exporter's report and stack, and a library's lines of C++."""
    while error.__cause__ is not None:
        error = error.__cause__
    told = (line.strip() for line in str(error).splitlines() if not _SOURCE.search(line))
    lines = [line for line in told if line]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:500]
