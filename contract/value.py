"""The two shapes every word of the contract has: a frozen value, and an answer."""

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue


class Value(BaseModel):
    """A frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def _not_empty(given: tuple[object, ...]) -> tuple[object, ...]:
    if not given:
        raise ValueError("there must be at least one")
    return given


#: Not `min_length`, by which pydantic finds a list too short too, where one of its items is wrong.
AT_LEAST_ONE = AfterValidator(_not_empty)

#: An instant in UTC, written in RFC 3339.
Instant = AwareDatetime

Json = JsonValue

#: A SHA-256 digest in lower-case hexadecimal.
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

#: Labels that a client hangs on a resource: at most 16, keys of 64 and values of 512 characters.
Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=16),
]

#: The URL of each thing that can be done next, by name.
Links = dict[str, str]

__all__ = ["AT_LEAST_ONE", "Instant", "Json", "Links", "Metadata", "Sha256", "Value"]
