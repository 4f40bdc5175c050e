"""Makes `import torchvision` work where torch is a CPU build and torchvision's wheel a CUDA build.

The wheel's compiled operators do not load there, and the import stops at `operator torchvision::nms does not exist`,
because torchvision registers shapes for two operators that it never defined. Declaring the two schemas is enough for
every classification model: none of them calls either. Where the builds match nothing is declared.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from compressor.models.uncompiled import without_compiler

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

#: Keeps the declarations alive.
_libraries: list[torch.library.Library] = []


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    compiled = sorted(Path(spec.origin).parent.glob("_C*.so")) if spec and spec.origin else []
    try:
        for file in compiled:
            torch.ops.load_library(file)  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(compiled)


@cache
def torchvision() -> ModuleType:
    """The torchvision package."""
    if not _operators_load():
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                library.define(schema)  # type: ignore[no-untyped-call]
        _libraries.append(library)
    with without_compiler():
        return importlib.import_module("torchvision")
