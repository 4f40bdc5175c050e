"""Strided convolutions over few channels, as integer kernels compute them fastest.

ONNX Runtime's copy what lies under a filter pixel by pixel, and with the three channels of an image a copy has three
bytes: the first layer takes longer than it does in float32. Where the pixels of a block lie in the channels instead
(SpaceToDepth), a convolution crosses blocks with stride 1, copies more at once, and adds up the same products.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

#: More channels than this are copied well as they are.
_FEW_CHANNELS = 4
#: Of an image: height and width.
_SIDES = 2


def fold_strides(model: ir.Model) -> None:
    """Let such convolutions cross blocks of pixels, where they have integers for weights; the answers stay the same."""
    for node in list(model.graph):
        crossing = Crossing.of(node)
        if crossing is not None and crossing.fits():
            crossing.fold(model)


@dataclass(frozen=True)
class Window:
    """A filter along one side of an image, which it crosses in strides."""

    size: int
    stride: int
    #: On either side of the image.
    padding: int
    #: Of the image, in pixels.
    length: int

    @property
    def lead(self) -> int:
        """Pixels that the filter gains at its beginning, so that it begins with a block."""
        return -self.padding % self.stride

    @property
    def blocks(self) -> int:
        """How many blocks the filter covers then."""
        return -(-(self.lead + self.size) // self.stride)

    @property
    def tail(self) -> int:
        """Pixels that it gains at its end, so that it ends with a block."""
        return self.blocks * self.stride - self.lead - self.size

    @property
    def pads(self) -> tuple[int, int]:
        """Blocks of padding before and behind the image."""
        positions = (self.length + 2 * self.padding - self.size) // self.stride + 1
        before = (self.padding + self.lead) // self.stride
        return before, positions + self.blocks - 1 - before - self.length // self.stride


@dataclass(frozen=True)
class Crossing:
    """An integer convolution over an image of known size, and how its filters cross that."""

    node: ir.Node
    #: What makes the numbers of the image and of the weights out of codes.
    image: ir.Node
    weight: ir.Node
    #: Of the weights: (out, in / groups, height, width).
    codes: ir.TensorProtocol
    height: Window
    width: Window

    @classmethod
    def of(cls, node: ir.Node) -> Self | None:
        """What a node is, if it is one."""
        if node.op_type != "Conv":
            return None
        image, weight = (_decoding(value) for value in node.inputs[:2])
        codes = weight.inputs[0].const_value if weight is not None and weight.inputs[0] is not None else None
        sides = tuple(side for side in _shape(node.inputs[0])[2:] if isinstance(side, int))
        if image is None or weight is None or codes is None or len(sides) != _SIDES:
            return None
        strides, pads = (node.attributes[name].as_ints() for name in ("strides", "pads"))
        return cls(node, image, weight, codes, *map(Window, codes.numpy().shape[2:], strides, pads, sides))

    def fits(self) -> bool:
        """Whether the image has few channels and consists of blocks, which one filter after the other covers."""
        few = self.codes.numpy().shape[1] <= _FEW_CHANNELS and self.node.attributes["group"].as_int() == 1
        dense = all(step == 1 for step in self.node.attributes["dilations"].as_ints())
        square = self.height.stride == self.width.stride > 1
        whole = all(side.length % side.stride == 0 and min(side.pads) >= 0 for side in (self.height, self.width))
        return few and dense and square and whole

    def fold(self, model: ir.Model) -> None:
        """Write it with stride 1 over blocks."""
        tape, (above, below), (left, right) = Tape(), self.height.pads, self.width.pads
        codes = self.image.inputs[0]
        assert codes is not None
        blocks = tape.op("SpaceToDepth", [codes], {"blocksize": self.height.stride})
        blocks.type, blocks.name = codes.type, f"{self.node.name}_blocks"
        image = tape.op("DequantizeLinear", [blocks, *self.image.inputs[1:]])
        image.dtype, image.name = ir.DataType.FLOAT, f"{self.node.name}_image"
        filters = self._folded_codes()
        model.graph.register_initializer(filters)
        weight = tape.op("DequantizeLinear", [filters, *self.weight.inputs[1:]], {"axis": 0})
        weight.dtype, weight.name = ir.DataType.FLOAT, f"{self.node.name}_filters"
        model.graph.insert_before(self.node, tape.nodes)
        self.node.replace_input_with(0, image)
        self.node.replace_input_with(1, weight)
        self.node.attributes["strides"] = ir.AttrInt64s("strides", (1, 1))
        self.node.attributes["pads"] = ir.AttrInt64s("pads", (above, left, below, right))

    def _folded_codes(self) -> ir.Value:
        """(out, in * stride^2, blocks, blocks), in the order in which SpaceToDepth lays out a block."""
        height, width, stride = self.height, self.width, self.height.stride
        edges = ((0, 0), (0, 0), (height.lead, height.tail), (width.lead, width.tail))
        padded = np.pad(self.codes.numpy(), edges)
        out, channels = padded.shape[:2]
        cut = padded.reshape(out, channels, height.blocks, stride, width.blocks, stride)
        laid = cut.transpose(0, 3, 5, 1, 2, 4).reshape(out, -1, height.blocks, width.blocks)
        made = ir.tensor(np.ascontiguousarray(laid), name=f"{self.codes.name}_blocks")
        return ir.Value(name=made.name, shape=ir.Shape(laid.shape), type=ir.TensorType(made.dtype), const_value=made)


def _decoding(value: ir.Value | None) -> ir.Node | None:
    """The node that makes numbers of the codes that an operator reads."""
    producer = value.producer() if value is not None else None
    return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _shape(value: ir.Value | None) -> tuple[int | ir.SymbolicDim, ...]:
    return tuple(value.shape) if value is not None and value.shape is not None else ()
