"""The quantizers that others have, called as their own documentation shows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.exports.onnx import export

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
    """NNCF's post-training quantization of the ONNX file. Needs `pip install nncf`."""
    import nncf
    import onnx

    plain, found = folder / "plain.onnx", folder / "by-nncf.onnx"
    export(made, plain)
    single = [{"image": x[None]} for batch in images.batches(_BATCH) for x in batch.x.numpy()]
    quantized = nncf.quantize(onnx.load(plain), nncf.Dataset(single), subset_size=len(images))
    onnx.save(quantized, found)
    return found
