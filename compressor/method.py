"""What a method is: a function from candidate to candidate, in a file of its own."""

import importlib
from functools import cache
from typing import Protocol, cast

from compressor.candidate import Candidate
from compressor.context import Context
from contract.methods import Params


class Apply(Protocol):
    """A method's work.

    It owns the candidate it is given and returns the one to use. It touches no file, environment, clock or network:
    data, device, seed, progress and checkpoints reach it through the context. Raises a `contract.failures.Failure`
    where the model does not fit.
    """

    def __call__(self, candidate: Candidate, params: Params, context: Context) -> Candidate:
        """Do the step."""
        ...


class Preflight(Protocol):
    """What a method can say against a model within seconds, before the first step."""

    def __call__(self, candidate: Candidate, params: Params) -> None:
        """Raise a `contract.failures.Failure` if the step cannot be done."""
        ...


def _module(name: str) -> object:
    return importlib.import_module(f"compressor.methods.{name}")


@cache
def method(name: str) -> Apply:
    """The work of the method with this name."""
    return cast(Apply, getattr(_module(name), "apply"))  # noqa: B009


@cache
def preflight(name: str) -> Preflight | None:
    """The early check of the method with this name, where it has one."""
    return cast("Preflight | None", getattr(_module(name), "preflight", None))
