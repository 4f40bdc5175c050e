"""Torch's translations of its operators into ONNX's, read once.

Its exporter reads the source of five hundred of them anew for every network: of a small one's export that is four
tenths, and a job writes two networks or more.
"""

from functools import cache

from torch.onnx._internal._lazy_import import onnxscript_apis  # type: ignore[attr-defined]


@cache
def read_once() -> None:
    """Let all exports of this process share what the first one reads."""
    onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)
