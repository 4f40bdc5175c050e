"""Plans on trial: what their networks answer."""

from dataclasses import replace

import pytest

from contract.failures import UnfitModel
from tests.unit.compressor.networks import residual
from tests.unit.compressor.quantization.drafts import drafting_of


def test_codes_with_which_a_network_answers_no_numbers_make_no_plan() -> None:
    # Given codes of a last layer whose products float32 cannot hold, of a network that answers with numbers
    drafting = drafting_of(residual())
    head = drafting.codes["head.weight"]
    codes = {**drafting.codes, "head.weight": replace(head, scale=head.scale * 0 + 1e38)}
    # When they are tried / Then it is said that they are to blame
    with pytest.raises(UnfitModel, match=r"^Quantized, the network answers"):
        drafting.with_codes(codes).draft(list(codes))
