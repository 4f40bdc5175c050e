"""What the API and its methods are, as files: `python -m service.describe` writes openapi.json and methods.md."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contract.methods import METHODS, Params
from contract.methods.card import MethodCard, card_of
from service.app import described_app

API, PAGE = Path("openapi") / "openapi.json", Path("docs") / "methods.md"

_HEAD = """# Methods

Written by `make generate` from `contract/methods`: what can be a step of a job, and what each can be asked for.
Training data stands in for calibration data that is not there.
"""


def api() -> str:
    """The API's description as it is committed."""
    return json.dumps(described_app().openapi(), indent=1, ensure_ascii=False) + "\n"


def methods() -> str:
    """A page with every method and its parameters."""
    return _HEAD + "".join(_section(kind) for kind in METHODS.values())


def _section(kind: type[Params]) -> str:
    card = card_of(kind)
    needs = f" Needs {', '.join(f'`data.{role}`' for role in card.needs)}." if card.needs else ""
    head = "| parameter | what it may be | default | |\n| --- | --- | --- | --- |\n"
    return f"\n## {card.name}\n\n{card.summary}{needs}\n\n{head}" + "".join(_rows(card)) + "".join(_unions(card))


def _rows(card: MethodCard) -> Iterator[str]:
    definitions: Mapping[str, Any] = card.params.get("$defs", {})  # type: ignore[assignment]
    properties: Mapping[str, Any] = card.params["properties"]  # type: ignore[assignment]
    required: list[str] = card.params.get("required", [])  # type: ignore[assignment]
    for name, schema in properties.items():
        if name != "method":
            kind, default = _kind(schema, definitions), _default(schema, required=name in required)
            yield f"| `{name}` | {kind} | {default} | {schema.get('description', '')} |\n"


def _default(schema: Mapping[str, Any], *, required: bool) -> str:
    if required:
        return "must be given"
    # What a factory makes is not in the schema: it is empty.
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "none"


def _unions(card: MethodCard) -> Iterator[str]:
    """A table for each parameter whose values are objects of several kinds, told apart by one of their fields."""
    definitions: Mapping[str, Any] = card.params.get("$defs", {})  # type: ignore[assignment]
    properties: Mapping[str, Any] = card.params["properties"]  # type: ignore[assignment]
    for name, schema in properties.items():
        for tag, kinds in _tagged(schema):
            yield f"\nObjects in `{name}` of `{card.name}`:\n\n| `{tag}` | what it may have | |\n| --- | --- | --- |\n"
            for kind, reference in kinds.items():
                told = definitions[reference.rpartition("/")[2]]
                fields = ", ".join(_field(n, s, definitions) for n, s in told["properties"].items() if n != tag)
                yield f"| `{kind}` | {fields} | {told.get('description', '')} |\n"


def _tagged(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """By which field objects are told apart, and their schemas by its values."""
    if "discriminator" in schema:
        yield schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
        return
    for inner in (*schema.get("oneOf", ()), *schema.get("anyOf", ()), *filter(None, [schema.get("items")])):
        yield from _tagged(inner)


def _field(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    default = f" (`{json.dumps(schema['default'])}`)" if "default" in schema else ""
    return f"`{name}`: {_kind(schema, definitions)}{default}"


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    match schema:
        case {"$ref": str(reference)}:
            return _named(reference.rpartition("/")[2], definitions)
        case {"discriminator": {"propertyName": str(tag)}}:
            return f"object told by `{tag}` (below)"
        case {"anyOf": list(kinds)} | {"oneOf": list(kinds)}:
            return " or ".join(_kind(kind, definitions) for kind in kinds)
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"prefixItems": list(kinds)}:
            return f"[{', '.join(_kind(kind, definitions) for kind in kinds)}]"
        case {"type": "array", "items": dict(items)}:
            return f"list of {_kind(items, definitions)}"
        case {"type": "object", "propertyNames": {"enum": list(names)}, "additionalProperties": dict(values)}:
            return f"{_kind(values, definitions)} by {_kind({'enum': names}, definitions)}"
        case {"type": "object", "additionalProperties": dict(values)}:
            return f"{_kind(values, definitions)} by glob"
        case {"type": str(kind)}:
            return kind + _bounds(schema)
        case _:
            return "anything"


def _named(name: str, definitions: Mapping[str, Any]) -> str:
    schema = definitions.get(name, {})
    return _kind(schema, definitions) if "properties" not in schema else f"object ({', '.join(schema['properties'])})"


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    told = [f"{word} {schema[bound]:g}" for bound, word in words.items() if bound in schema]
    told += [f"`{schema['pattern']}`".replace("|", "\\|")] if "pattern" in schema else []
    return f" {', '.join(told)}" if told else ""


def main() -> None:
    """Write both."""
    for path, text in ((API, api()), (PAGE, methods())):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
