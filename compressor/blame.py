"""Whose fault a failure is."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.failures import Failure, Fault


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
