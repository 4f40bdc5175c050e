"""Libraries imported without torch's compiler, which takes longer to load than they do, and which nothing here runs.

What they ask of it while they are imported is put off until what they ask it for is run.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial, wraps
from types import ModuleType
from typing import Any

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_UTILS).is_compile_supported(device_type))


def _disable(function: Callable[..., Any] | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """Keeps the compiler from a function, once that is called; a decorator where there is none yet."""
    if function is None:
        return partial(_disable, recursive=recursive, reason=reason)
    plain = function

    @cache
    def disabled() -> Callable[..., Any]:
        made: Callable[..., Any] = importlib.import_module(_COMPILER).disable(plain, recursive, reason=reason)
        return made

    @wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        return disabled()(*args, **kwargs)

    return call


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within this block `torch._dynamo` is a stand-in, where it is not loaded: for imports alone.

    `torchvision.ops.roi_align` takes a function from it, and `timm.models.naflexvit` has one left uncompiled.
    """
    if _COMPILER in sys.modules:
        yield
        return
    compiler, utils = ModuleType(_COMPILER), ModuleType(_UTILS)
    compiler.__path__ = []
    vars(compiler)["disable"] = _disable
    vars(utils)["is_compile_supported"] = _is_compile_supported
    stand_ins = {module.__name__: module for module in (compiler, utils)}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
