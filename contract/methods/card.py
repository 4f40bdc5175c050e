"""What a client can know of a method."""

from typing import Any

from contract.methods.params import Params, Role, Stage
from contract.value import Json, Value


class MethodCard(Value):
    """One method: what it does, where it may stand, what it needs, what it can be asked for."""

    name: str
    summary: str
    stage: Stage
    #: Roles of the data without which it cannot work.
    needs: tuple[Role, ...]
    needs_labels: bool
    #: JSON Schema of a step with this method.
    params: dict[str, Json]
    #: A step that works.
    example: dict[str, Json]


class MethodList(Value):
    """Every method."""

    data: tuple[MethodCard, ...]


def card_of(kind: type[Params]) -> MethodCard:
    """The card of the method with these params."""
    return MethodCard(
        name=kind.model_fields["method"].default,
        summary=(kind.__doc__ or "").strip().splitlines()[0],
        stage=kind.stage,
        needs=tuple(sorted(kind.needs)),
        needs_labels=kind.needs_labels,
        params=kind.model_json_schema(),
        example=_example(kind),
    )


def _example(kind: type[Params]) -> dict[str, Any]:
    required = {name: _sample(field.examples) for name, field in kind.model_fields.items() if field.is_required()}
    return kind.model_validate(required | dict(kind.example)).model_dump(mode="json")


def _sample(examples: list[Any] | None) -> Any:
    if not examples:
        raise LookupError("a required parameter has an example")
    return examples[0]
