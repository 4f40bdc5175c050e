"""Models on their way into the catalogue."""

from contract.architecture import resolve_preprocessing
from contract.failures import UnknownArchitecture
from contract.model import Model, ModelCreation, Preprocessing
from service.house import TENANT, House
from service.specs import fault_of_architecture
from storage.idempotency import Reply


def add_model(house: House, creation: ModelCreation, reply: Reply[Model] | None = None) -> Model:
    """Write a model; raises what `check_model` raises."""
    preprocessing = check_model(creation, pointer="")
    return house.models.add(TENANT, creation, preprocessing=preprocessing, reply=reply)


def check_model(creation: ModelCreation, *, pointer: str) -> Preprocessing:
    """How its images become inputs; `pointer` says where it stands.

    Raises `UnknownArchitecture` where no library builds it, and `InvalidRequest` where its preprocessing is none.
    """
    fault = fault_of_architecture(creation.architecture, pointer=f"{pointer}/architecture")
    if fault is not None:
        raise UnknownArchitecture(fault.detail, errors=[fault])
    return resolve_preprocessing(creation.architecture, creation.preprocessing, pointer=f"{pointer}/preprocessing")
