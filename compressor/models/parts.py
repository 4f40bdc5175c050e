"""Layers told by numbers alone: what an edit may put into a network, without naming code."""

from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import Field
from torch import nn

from contract.value import Value

Count = Annotated[int, Field(ge=1, le=2**24)]
Pair = tuple[Annotated[int, Field(ge=0, le=2**16)], Annotated[int, Field(ge=0, le=2**16)]]


class Convolution(Value):
    """`nn.Conv2d` with zeros around the image."""

    kind: Literal["convolution"] = "convolution"
    in_channels: Count
    out_channels: Count
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: Count = 1
    bias: bool = False


class Dense(Value):
    """`nn.Linear`."""

    kind: Literal["dense"] = "dense"
    in_features: Count
    out_features: Count
    bias: bool = False


class BatchNorm(Value):
    """`nn.BatchNorm2d` with a scale, a shift and running statistics."""

    kind: Literal["batch_norm"] = "batch_norm"
    num_features: Count
    eps: float = Field(default=1e-5, gt=0, le=1)
    momentum: float = Field(default=0.1, ge=0, le=1)


ActivationName = Literal["relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu"]


class Activation(Value):
    """A function of each number by itself."""

    kind: Literal["activation"] = "activation"
    name: ActivationName


Part = Annotated[Convolution | Dense | BatchNorm | Activation, Field(discriminator="kind")]

_ACTIVATIONS: Mapping[ActivationName, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid,
    "silu": nn.SiLU, "sigmoid": nn.Sigmoid, "gelu": nn.GELU,
}  # fmt: skip


def built(part: Part) -> nn.Module:
    """The layer, with the weights that torch begins with."""
    match part:
        case Convolution():
            return nn.Conv2d(
                part.in_channels, part.out_channels, part.kernel_size, stride=part.stride, padding=part.padding,
                dilation=part.dilation, groups=part.groups, bias=part.bias,
            )  # fmt: skip
        case Dense():
            return nn.Linear(part.in_features, part.out_features, bias=part.bias)
        case BatchNorm():
            return nn.BatchNorm2d(part.num_features, eps=part.eps, momentum=part.momentum)
        case Activation():
            return _ACTIVATIONS[part.name]()


def told(layer: nn.Module) -> Part | None:
    """What the layer is; None where this vocabulary has no words for all that it computes."""
    if type(layer) is nn.Conv2d:
        return _convolution(layer)
    if type(layer) is nn.Linear:
        return Dense(in_features=layer.in_features, out_features=layer.out_features, bias=layer.bias is not None)
    if type(layer) is nn.BatchNorm2d and layer.affine and layer.track_running_stats and layer.momentum is not None:
        return BatchNorm(num_features=layer.num_features, eps=layer.eps, momentum=layer.momentum)
    return _activation(layer)


def _convolution(layer: nn.Conv2d) -> Convolution | None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    return Convolution(
        in_channels=layer.in_channels, out_channels=layer.out_channels, groups=layer.groups,
        kernel_size=cast("Pair", layer.kernel_size), stride=cast("Pair", layer.stride),
        padding=cast("Pair", layer.padding), dilation=cast("Pair", layer.dilation), bias=layer.bias is not None,
    )  # fmt: skip


def _activation(layer: nn.Module) -> Activation | None:
    if isinstance(layer, nn.GELU) and layer.approximate != "none":
        return None
    return next((Activation(name=name) for name, kind in _ACTIVATIONS.items() if type(layer) is kind), None)
