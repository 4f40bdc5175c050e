"""INT8 weights for linear and recurrent layers; linear layers quantize their inputs as they come.

What ONNX calls dynamic quantization: uint8 activations over the range that each tensor has at that moment. The weights
of LSTM and GRU are stored as int8 and widened to run.
"""

from dataclasses import replace

from torch import nn

from compressor.attention import ATTENTION
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.quantization.codes import weight_codes
from compressor.quantization.graph import capture
from compressor.quantization.processor import weight_bits
from compressor.quantization.selection import check, replace_weights, report, selected
from contract.methods.quantize import QuantizeDynamic

_KINDS = frozenset({"linear", "recurrent"})
_MODULES = (nn.Linear, *ATTENTION, nn.LSTM, nn.GRU)


def preflight(candidate: Candidate, params: QuantizeDynamic) -> None:
    """Raise where no layer can be meant."""
    check(candidate.module, params, kinds=_MODULES, method=params.method)


def apply(candidate: Candidate, params: QuantizeDynamic, context: Context) -> Candidate:
    """Give the weights of linear and recurrent layers their codes."""
    candidate.module.to(context.device)
    graph = capture(candidate.module, candidate.input_shape)
    chosen = selected(candidate, graph, params, kinds=_KINDS)
    bits = weight_bits()
    codes = {
        name: weight_codes(candidate.module.get_parameter(name), per_channel=params.per_channel, bits=bits)
        for name in dict.fromkeys(product.parameter for product in chosen)
    }
    replace_weights(candidate.module, codes)
    report(candidate, codes, context)
    recurrent = list(dict.fromkeys(product.layer for product in chosen if product.kind == "recurrent"))
    if recurrent:
        context.record("weights_widened_to_run", list(recurrent))
    dynamic = candidate.plan.dynamic | {product.parameter for product in chosen if product.kind == "linear"}
    return replace(candidate, plan=replace(candidate.plan.with_weights(codes), dynamic=dynamic))
