"""Models on their way into the catalogue."""

from contract.architecture import resolve_preprocessing
from contract.failures import UnknownArchitecture
from contract.model import Model, ModelCreation
from service.house import TENANT, House
from service.specs import fault_of_architecture
from storage.idempotency import Reply


def add_model(house: House, creation: ModelCreation, reply: Reply[Model] | None = None) -> Model:
    """Write a model; raises `UnknownArchitecture`."""
    check_architecture(creation, pointer="/architecture")
    preprocessing = resolve_preprocessing(creation.architecture, creation.preprocessing)
    return house.models.add(TENANT, creation, preprocessing=preprocessing, reply=reply)


def check_architecture(creation: ModelCreation, *, pointer: str) -> None:
    """Raise `UnknownArchitecture` where no library builds it."""
    fault = fault_of_architecture(creation.architecture, pointer=pointer)
    if fault is not None:
        raise UnknownArchitecture(fault.detail, errors=[fault])
