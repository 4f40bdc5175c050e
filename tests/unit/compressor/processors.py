"""What some tests need of this machine's processor."""

import pytest

from compressor.quantization.processor import weight_bits

needs_exact_sums = pytest.mark.skipif(weight_bits() < 8, reason="sums saturate here: this processor has no VNNI")
