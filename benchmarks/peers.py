"""The quantizers that others have, called as their own documentation shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.exports.onnx import export
from compressor.exports.openvino_nncf import nncf

_BATCH = 32


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of images, as ONNX Runtime asks for them."""

    def __init__(self, images: Images) -> None:
        self._batches: Iterator[Any] = iter(images.batches(_BATCH))

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch.x.numpy()}


def by_onnxruntime(made: Candidate, images: Images, folder: Path) -> Path:
    """ONNX Runtime's static quantization: QDQ, per channel, ranges by minimum and maximum."""
    plain, prepared, found = folder / "plain.onnx", folder / "prepared.onnx", folder / "by-onnxruntime.onnx"
    export(made, plain)
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(found), _Reader(images), quant_format=QuantFormat.QDQ, per_channel=True)
    return found


def by_nncf(made: Candidate, images: Images, folder: Path) -> Path:
    """NNCF's post-training quantization of the ONNX file."""
    plain, found = folder / "plain.onnx", folder / "by-nncf.onnx"
    export(made, plain)
    single = [{"image": x[None]} for batch in images.batches(_BATCH) for x in batch.x.numpy()]
    package = nncf()
    quantized = package.quantize(onnx.load(plain), package.Dataset(single), subset_size=len(images))
    onnx.save(quantized, found)
    return found


def by_pt2e(made: Candidate, images: Images, folder: Path) -> Path:
    """Torchao's PT2E flow for the inductor on x86, as a program."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    found = folder / "by-pt2e.inductor.pt2"
    example, free = (torch.zeros(2, *made.input_shape),), ({0: torch.export.Dim("batch")},)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(made.module, example, dynamic_shapes=free).module(), quantizer)
    with torch.no_grad():
        for batch in images.batches(_BATCH):
            prepared(batch.x)
    torch.export.save(torch.export.export(convert_pt2e(prepared), example, dynamic_shapes=free), found)
    return found
