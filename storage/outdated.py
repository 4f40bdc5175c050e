"""Specs that were accepted under the rules of an earlier version and break those of this one."""

import json
from typing import Any

from pydantic import ValidationError, model_serializer

from contract.failures import Fault, SpecOutdated
from contract.faults import faults_of
from contract.spec import JobSpec
from contract.value import Json


class OutdatedSpec(JobSpec):
    """A spec that can be told as it was accepted, but neither run nor submitted again."""

    told: dict[str, Json]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, text: str, error: ValidationError) -> "OutdatedSpec":
        """What was stored, and what this version has against it."""
        told = json.loads(text)
        # Unvalidated, as it must be: the fields of a spec are left out.
        fields: dict[str, Any] = {
            "told": told,
            "faults": faults_of(error.errors(), body=told, code=SpecOutdated.code),
        }
        return cls.model_construct(**fields)

    @model_serializer
    def as_accepted(self) -> dict[str, Json]:
        """The spec as the client wrote it, every default of its day resolved."""
        return self.told


def check_current(spec: JobSpec) -> None:
    """Raise `SpecOutdated`, with all that is wrong, where this version would not accept the spec."""
    if isinstance(spec, OutdatedSpec):
        raise SpecOutdated(errors=spec.faults)
