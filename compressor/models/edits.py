"""What can be done to an architecture's shape: a closed vocabulary, so that a file can say it without naming code.

`architecture + edits` rebuilds a network on the meta device; its weights then fit strictly.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compressor.attention import ATTENTION, OpenAttention, SelfAttention
from compressor.models.parts import Part, built
from contract.failures import InvalidModel
from contract.value import Value

#: Raised with every change of the vocabulary that older readers would not understand.
VERSION = 4

ModuleName = Annotated[str, Field(min_length=1, max_length=512)]


class Narrow(Value):
    """A layer has fewer channels: the attributes that say how many, and the shapes of its own tensors."""

    op: Literal["narrow"] = "narrow"
    module: ModuleName
    #: Such as `in_channels`, `out_features`, `groups`, `num_features`.
    sizes: dict[str, int] = Field(default_factory=dict)
    #: By the tensor's name within the module, such as `weight`.
    shapes: dict[str, tuple[int, ...]]


class Set(Value):
    """An attribute has another value, such as `num_heads`; `bias` gives a layer a bias, or takes it away."""

    op: Literal["set"] = "set"
    module: ModuleName
    attribute: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    value: bool | int | float | tuple[int, ...]


class Remove(Value):
    """A module does nothing any more: it becomes the identity."""

    op: Literal["remove"] = "remove"
    module: ModuleName


class Replace(Value):
    """Other layers stand in a module's place: one as it is, several one behind the other as `nn.Sequential`."""

    op: Literal["replace"] = "replace"
    module: ModuleName
    parts: tuple[Part, ...] = Field(min_length=1, max_length=64)


class Unfuse(Value):
    """`nn.MultiheadAttention` becomes `SelfAttention` over the same parameters, which may then have fewer heads."""

    op: Literal["unfuse"] = "unfuse"
    module: ModuleName


class Open(Value):
    """Attention becomes `OpenAttention` over the same parameters, whose projections are layers that can be replaced."""

    op: Literal["open"] = "open"
    module: ModuleName


Edit = Annotated[Narrow | Set | Remove | Replace | Unfuse | Open, Field(discriminator="op")]

#: Attributes that say how many channels a layer has.
SIZES = (
    "in_channels",
    "out_channels",
    "in_features",
    "out_features",
    "groups",
    "num_features",
    "num_channels",
    "num_groups",
    "embed_dim",
)


def _attributes(module: nn.Module) -> dict[str, bool | int | float | tuple[int, ...]]:
    """The plain numbers that a module carries, but for its mode and what Narrow tells."""
    hidden = {"training", *SIZES}
    plain = {k: v for k, v in vars(module).items() if not k.startswith("_") and k not in hidden}
    return {k: v for k, v in plain.items() if isinstance(v, bool | int | float) or _is_size(v)}


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(type(part) is int for part in value)


def _sizes(module: nn.Module) -> dict[str, int]:
    # Only what a module carries itself: some tell the sizes of the layers within them as properties.
    return {name: size for name, size in vars(module).items() if name in SIZES and isinstance(size, int)}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {name: tuple(tensor.shape) for name, tensor in own}


def edits_between(before: nn.Module, after: nn.Module) -> tuple[Edit, ...]:
    """The edits that make a network shaped as `before` into one shaped as `after`.

    Modules are matched by name; a module that `after` has replaced by the identity was removed.
    """
    old = dict(before.named_modules())
    return tuple(
        edit for name, module in after.named_modules() if name in old for edit in _told(name, old[name], module)
    )


def _told(name: str, before: nn.Module, after: nn.Module) -> Iterator[Edit]:
    if isinstance(after, nn.Identity):
        if not isinstance(before, nn.Identity):
            yield Remove(module=name)
        return
    if isinstance(before, nn.MultiheadAttention) and isinstance(after, SelfAttention):
        yield Unfuse(module=name)
        before = SelfAttention.of(before)
    sizes = {k: v for k, v in _sizes(after).items() if v != _sizes(before).get(k)}
    shapes = {k: v for k, v in _shapes(after).items() if k in _shapes(before) and v != _shapes(before)[k]}
    if sizes or shapes:
        yield Narrow(module=name or ".", sizes=sizes, shapes=shapes)
    if ("bias" in _shapes(after)) != ("bias" in _shapes(before)) and hasattr(before, "bias"):
        # After the narrowing, which says how long it is.
        yield Set(module=name, attribute="bias", value="bias" in _shapes(after))
    old = _attributes(before)
    for attribute, value in _attributes(after).items():
        if attribute in old and old[attribute] != value:
            yield Set(module=name or ".", attribute=attribute, value=value)


def apply_edits(module: nn.Module, edits: Sequence[Edit]) -> None:
    """Do the edits, in order. Raises `InvalidModel` where one names what the network does not have."""
    for edit in edits:
        target = _find(module, edit.module)
        match edit:
            case Narrow():
                _narrow(target, edit)
            case Set():
                _set(target, edit)
            case Remove():
                _replace(module, edit.module, nn.Identity())
            case Replace():
                _replace(module, edit.module, _made(target, edit))
            case Unfuse():
                _replace(module, edit.module, _unfused(target, edit.module))
            case Open():
                _replace(module, edit.module, _opened(target, edit.module))


def _find(module: nn.Module, name: str) -> nn.Module:
    try:
        return module if name == "." else module.get_submodule(name)
    except AttributeError as error:
        raise InvalidModel(f"An edit names {name}, which the architecture does not have.") from error


def _narrow(target: nn.Module, edit: Narrow) -> None:
    for name, size in edit.sizes.items():
        if not isinstance(getattr(target, name, None), int):
            raise InvalidModel(f"An edit narrows {edit.module}.{name}, which is no size.")
        setattr(target, name, size)
    for name, shape in edit.shapes.items():
        _reshape(target, name, shape, where=edit.module)


def _reshape(target: nn.Module, name: str, shape: tuple[int, ...], *, where: str) -> None:
    parameter, buffer = target._parameters.get(name), target._buffers.get(name)
    tensor: Tensor | None = buffer if parameter is None else parameter
    if tensor is None or tensor.dim() != len(shape) or any(n > old for n, old in zip(shape, tensor.shape, strict=True)):
        raise InvalidModel(f"An edit narrows {where}.{name} to {list(shape)}, which does not fit.")
    smaller = tensor.detach()[tuple(slice(n) for n in shape)].clone()
    if parameter is not None:
        target._parameters[name] = nn.Parameter(smaller, requires_grad=tensor.requires_grad)
    else:
        target._buffers[name] = smaller


def _set(target: nn.Module, edit: Set) -> None:
    if edit.attribute == "bias":
        _set_bias(target, wanted=bool(edit.value))
        return
    old = getattr(target, edit.attribute, None)
    if not isinstance(old, bool | int | float | tuple):
        raise InvalidModel(f"An edit sets {edit.module}.{edit.attribute}, which is no number.")
    setattr(target, edit.attribute, edit.value)


def _set_bias(target: nn.Module, *, wanted: bool) -> None:
    weight = target._parameters.get("weight")
    width = getattr(target, "out_channels", getattr(target, "out_features", None))
    if weight is None or width is None:
        raise InvalidModel("An edit gives a bias to a module that cannot have one.")
    bias = nn.Parameter(torch.zeros(width, dtype=weight.dtype, device=weight.device)) if wanted else None
    target.register_parameter("bias", bias)


def _made(target: nn.Module, edit: Replace) -> nn.Module:
    """The layers, on the device and in the mode of what they replace."""
    layers = [built(part) for part in edit.parts]
    made = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    device = next((tensor.device for tensor in (*target.parameters(), *target.buffers())), None)
    return made.to(device=device).train(target.training)


def _unfused(target: nn.Module, where: str) -> SelfAttention:
    if not isinstance(target, nn.MultiheadAttention):
        raise InvalidModel(f"An edit unfuses {where}, which is not torch's MultiheadAttention.")
    try:
        return SelfAttention.of(target)
    except ValueError as error:
        raise InvalidModel(f"An edit unfuses {where}: {error}.") from error


def _opened(target: nn.Module, where: str) -> OpenAttention:
    if not isinstance(target, ATTENTION):
        raise InvalidModel(f"An edit opens {where}, which is no attention.")
    try:
        return OpenAttention.of(target)
    except ValueError as error:
        raise InvalidModel(f"An edit opens {where}: {error}.") from error


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
