"""The params of every method, found by folder: one file for each family."""

import importlib
import pkgutil

from contract.methods.params import Params, Patterns, Recipe, Recovery, Role, Stage, Training


def _found() -> dict[str, type[Params]]:
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Params) and "method" in vars(kind).get("__annotations__", {})
    ]
    return {kind.model_fields["method"].default: kind for kind in kinds if kind is not Params}


#: The class of each method's params, by the method's name.
METHODS: dict[str, type[Params]] = dict(sorted(_found().items()))

__all__ = ["METHODS", "Params", "Patterns", "Recipe", "Recovery", "Role", "Stage", "Training"]
