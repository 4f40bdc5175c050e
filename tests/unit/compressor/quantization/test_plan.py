"""A plan survives being written."""

import torch

from compressor.quantization.codes import weight_codes
from compressor.quantization.plan import ActivationCode, PlanDocument, QuantizationPlan, restored


def test_a_plan_is_the_same_after_writing() -> None:
    # Given a plan with per-channel and per-tensor weights, activations and a dynamic layer
    plan = QuantizationPlan(
        {
            "a.weight": weight_codes(torch.randn(4, 3), per_channel=True),
            "b.weight": weight_codes(torch.randn(4, 3), per_channel=False, bits=7),
        },
        {"image": ActivationCode(scale=0.1, zero_point=3)},
        frozenset({"b.weight"}),
    )
    # When its document goes through JSON and its tensors are read back
    document = PlanDocument.model_validate_json(plan.document().model_dump_json())
    again = restored(document, plan.tensors())
    # Then it means what it meant
    assert again.document() == plan.document()
    for name, weight in plan.weights.items():
        assert torch.equal(again.weights[name].dequantized(), weight.dequantized())
    assert again.layers == {"a", "b"}
    assert (again.bits("b.weight"), again.bits("c.weight")) == (7, 32)


def test_an_empty_plan_plans_nothing() -> None:
    # Given no quantizing step
    plan = QuantizationPlan()
    # Then nothing is quantized
    assert plan.empty
    assert not plan.rounds_activations
    assert restored(plan.document(), {}).empty
