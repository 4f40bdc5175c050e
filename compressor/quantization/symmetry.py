"""Ranges of activations whose zero lies in the middle of the codes."""

from compressor.quantization.calibrators.extremes import Range


def symmetric(range_: Range) -> Range:
    """The range, widened so that zero has code 128 of 256, and as many steps lead up as are needed.

    One without values below zero is left as it is: half of the codes would stand for nothing, and saturation at zero
    does the work of a ReLU.
    """
    low, high = range_
    if low >= 0:
        return range_
    reach = max(-low, high)
    return -reach * 128 / 127, reach
