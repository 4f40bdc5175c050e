"""A device that is not there: its tensors compute on the CPU, and refuse what a GPU's would refuse.

It takes torch's place for devices written in Python, for the whole process and before anything is differentiated.
Tensors of two devices do not meet, but for single numbers and indices; chance on it needs a generator of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
NAME = "elsewhere"
#: What copies from one device to another.
_COPIES = (aten.copy_.default, aten._to_copy.default)
#: Their indices may lie on the CPU.
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class _Module(backend_registration._DummyBackendModule):  # type: ignore[misc]
    def get_rng_state(self, *_: object) -> Tensor:
        return torch.zeros(1, dtype=torch.uint8)

    def set_rng_state(self, *_: object, **__: object) -> None:
        """Chance on the CPU has its own state."""


class _Elsewhere(Tensor):
    """A tensor of that device, around one of the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> "_Elsewhere":
        made: _Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=torch.device(NAME, 0), requires_grad=requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made

    def __deepcopy__(self, memo: dict[int, object]) -> "_Elsewhere":
        made = _Elsewhere(self.inner.detach().clone(), self.requires_grad)
        vars(made).update({key: value for key, value in vars(self).items() if key != "inner"})
        memo[id(self)] = made
        return made

    def tolist(self) -> Any:
        return self.inner.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: OpOverload, types: object, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return _computed(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: OpOverload, types: object, args: Any = (), kwargs: Any = None) -> Any:
        del types
        return _computed(func, args, kwargs or {})


def _computed(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    far = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, _Elsewhere)]
    given = kwargs.get("device")
    there = bool(far) if given is None else torch.device(given).type == NAME
    if func not in _COPIES:
        _refuse(func, args, kwargs, there=there)
    kept = {key: value for key, value in kwargs.items() if key != "device"}
    made = func(*tree_map(_inner, args), **tree_map(_inner, kept | ({"device": "cpu"} if given is not None else {})))
    # What was changed in place is given back as what it was given as.
    own = {id(tensor.inner): tensor for tensor in far} if func._schema.is_mutable else {}
    return tree_map(lambda one: own.get(id(one), _around(one)), made) if there else made


def _refuse(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], *, there: bool) -> None:
    """Raise what a GPU would."""
    if there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU draws nothing on {NAME}")
    if func in _INDEXED and isinstance(args[0], _Elsewhere):
        args = [args[0], *args[2:3]]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    near = [one for one in tensors if not isinstance(one, _Elsewhere)]
    if not near or len(near) == len(tensors):
        return
    # Of the CPU, single numbers may be there, so that they are only read, one by one or as what is put in.
    reads = torch.Tag.pointwise in func.tags or func in _INDEXED
    if not reads or any(one.dim() for one in near) or (func._schema.is_mutable and tensors[0] is near[0]):
        raise RuntimeError(f"{func}: tensors are on two devices, {NAME} and cpu")


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _Elsewhere) else value


def _around(value: Any) -> Any:
    return _Elsewhere(value) if isinstance(value, Tensor) and not isinstance(value, _Elsewhere) else value


def _moved(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` for tensors that are no plain ones: parameters stay the objects that they are."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for name, own in module._parameters.items():
        if own is not None and type(new := change(own.detach())) is not type(own.detach()):
            made = nn.Parameter(new, requires_grad=own.requires_grad)
            try:
                torch.utils.swap_tensors(own, made)
            except RuntimeError:  # Somebody watches it, as torch does who has captured it in a graph.
                module._parameters[name] = made
    for name, buffer in module._buffers.items():
        module._buffers[name] = None if buffer is None else change(buffer)
    return module


def _empty_strided(size: Sequence[int], stride: Sequence[int], **options: Any) -> Tensor:
    return _Elsewhere(torch.empty_strided(size, stride, dtype=options.get("dtype")))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    del non_blocking
    _inner(target).copy_(_inner(source))
    return target


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, as long as this lasts."""
    with pytest.MonkeyPatch.context() as patched, _Mode():
        patched.setattr(nn.Module, "_apply", _moved)
        yield torch.device(NAME, 0)


backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
_KERNELS = torch.library.Library("aten", "IMPL")
_KERNELS.impl("empty_strided", _empty_strided, "PrivateUse1")
_KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")
