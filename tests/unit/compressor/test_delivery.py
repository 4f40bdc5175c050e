"""What is written of what was asked for."""

from pathlib import Path

import pytest

from compressor.delivery import deliver_all
from compressor.exports.openvino_nncf import Unquantized
from compressor.methods.quantize_static import apply as quantize_static
from contract.artifact import OutputFormat, OutputPrecision, Quantizer
from contract.methods.quantize import QuantizeStatic
from contract.spec import Output, OutputOptions
from tests.unit.compressor.networks import images_for, residual
from tests.unit.compressor.quantization.steps import with_images

OUTPUTS = [
    Output(format=OutputFormat.OPENVINO),
    Output(format=OutputFormat.OPENVINO, options=OutputOptions(quantizer=Quantizer.NNCF)),
    Output(format=OutputFormat.OPENVINO, precision=OutputPrecision.FLOAT32),
]


@pytest.mark.parametrize(
    ("coded", "wanted"),
    [(True, {"model.xml": None, "model.nncf.xml": "nncf", "model.float32.xml": None}), (False, {"model.xml": None})],
    ids=["with a plan", "of floats"],
)
def test_every_quantizer_has_a_file_of_its_own_where_there_is_something_to_quantize(
    tmp_path: Path, coded: bool, wanted: dict[str, str | None]
) -> None:
    # Given a network with a plan or without, and files of floats, of its integers and of another quantizer's
    plain = residual()
    candidate = quantize_static(residual(), QuantizeStatic(), with_images(plain)) if coded else plain
    # When all are asked for
    deliveries = deliver_all(
        candidate, OUTPUTS, tmp_path, lambda: Unquantized(plain, images_for(plain, 32), "x86-vnni")
    )
    # Then there is one for each that differs, which says whose integers it has
    assert {d.main.name: d.realized_by and d.realized_by.split()[0] for d in deliveries} == wanted
    assert all(set(d.files.values()) <= set(tmp_path.iterdir()) for d in deliveries)
