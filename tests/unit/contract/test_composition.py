"""Which steps may follow which."""

from typing import Any

import pytest

from contract.composition import faults, faults_of_order, faults_of_outputs, faults_of_quantizers
from contract.methods import Role
from contract.spec import JobOptions

Step = dict[str, Any]


def codes_of(*steps: Step) -> list[tuple[str, str]]:
    options = JobOptions.model_validate({"steps": list(steps)})
    return [(fault.pointer, fault.code) for fault in faults_of_order(options)]


def step(method: str, **params: object) -> Step:
    return {"method": method, **params}


@pytest.mark.parametrize("later", ["fine_tune", "distill", "recalibrate", "analyze_sensitivity"])
def test_training_goes_on_with_stored_weights(later: str) -> None:
    # Given weights that are stored in few bits / When something follows that leaves their codes / Then it may
    assert codes_of(step("quantize_weights"), step(later)) == []


@pytest.mark.parametrize("later", ["prune_weights", "prune_channels", "train_sparse"])
def test_what_changes_weights_comes_before_their_codes(later: str) -> None:
    # Given weights in few bits, or INT8 / When something follows that changes them / Then it is refused
    for quantizer in ("quantize_weights", "quantize_static"):
        assert codes_of(step(quantizer), step(later)) == [("/steps/1", "wrong_order")]


def test_nothing_trains_what_computes_in_integers() -> None:
    # Given INT8 / When training follows / Then it is refused, stored weights before it or not
    assert codes_of(step("quantize_static"), step("fine_tune")) == [("/steps/1", "wrong_order")]
    parted = step("quantize_weights", include=["fc"]), step("quantize_static", exclude=["fc"])
    assert codes_of(*parted, step("fine_tune")) == [("/steps/2", "wrong_order")]


def test_a_layer_gets_its_codes_once() -> None:
    # Given two steps that take all layers / When one follows the other / Then it is refused; parted, they may
    assert codes_of(step("quantize_weights"), step("quantize_weights")) == [("/steps/1", "already_quantized")]
    assert codes_of(step("quantize_weights"), step("quantize_dynamic")) == [("/steps/1", "already_quantized")]
    assert codes_of(step("quantize_weights", exclude=["fc"]), step("quantize_dynamic", include=["fc"])) == []


def test_activations_can_be_quantized_behind_stored_weights() -> None:
    # Given weights in few bits / When INT8 with activations follows / Then it takes them as they are
    assert codes_of(step("quantize_weights"), step("quantize_static")) == []


def test_training_for_integers_comes_before_other_integers() -> None:
    # Given INT8 / When training for INT8 follows, of other layers even / Then it is refused, and may come before
    parted = step("quantize_static", include=["fc"]), step("quantize_aware", exclude=["fc"])
    assert codes_of(*parted) == [("/steps/1", "wrong_order")]
    assert codes_of(*reversed(parted)) == []
    assert codes_of(step("quantize_aware"), step("quantize_static")) == [("/steps/1", "already_quantized")]
    # And nothing trains behind it, but it trains what is stored
    assert codes_of(step("quantize_aware"), step("fine_tune")) == [("/steps/1", "wrong_order")]
    assert codes_of(step("quantize_weights"), step("quantize_aware")) == []


TAUGHT = {"distill_from_original": True}


@pytest.mark.parametrize(
    ("taught", "place"),
    [
        (step("quantize_aware"), ""),
        (step("fine_tune", **TAUGHT), ""),
        (step("train_sparse", **TAUGHT), ""),
        (step("prune_weights", schedule="gradual", training=TAUGHT), "/training"),
        (step("prune_channels", rounds=2, training=TAUGHT), "/training"),
        (step("quantize_weights", training=TAUGHT), "/training"),
    ],
    ids=lambda value: value["method"] if isinstance(value, dict) else "",
)
def test_a_model_without_weights_does_not_teach(taught: Step, place: str) -> None:
    # Given a model that has learned nothing / When it shall teach / Then that is refused where it is asked for
    def pointers(step: Step) -> list[str]:
        options = JobOptions.model_validate({"steps": [step]})
        return [fault.pointer for fault in faults(options, data=frozenset({Role.TRAIN}), untrained=True)]

    assert pointers(taught) == [f"/steps/0{place}/distill_from_original"]
    untaught = {"distill_from_original": False}
    assert pointers(taught | ({"training": untaught} if place else untaught)) == []


@pytest.mark.parametrize(("teacher", "is_there"), [("step_0", True), ("step_1", False), ("step_2", False)])
def test_only_an_earlier_step_can_teach(teacher: str, is_there: bool) -> None:
    # Given a step that learns from another one's model / When that comes later / Then it is refused where it is named
    steps = [step("fine_tune"), step("distill", teacher=["original", teacher]), step("fine_tune")]
    found = faults(JobOptions.model_validate({"steps": steps}), data=frozenset({Role.TRAIN}), untrained=False)
    assert [(fault.pointer, fault.code) for fault in found] == (
        [] if is_there else [("/steps/1/teacher/1", "wrong_order")]
    )


def test_another_architecture_comes_first() -> None:
    # Given a step / When another network takes the model's place behind it / Then it is refused
    other = step("replace_architecture", architecture={"name": "mobilenet_v2"})
    assert codes_of(step("prune_weights"), other) == [("/steps/1", "wrong_order")]
    assert codes_of(other, step("fine_tune")) == []


@pytest.mark.parametrize("quantizer", ["quantize_weights", "quantize_dynamic", "quantize_static"])
def test_cast_takes_what_a_quantizer_leaves_but_leaves_it_nothing(quantizer: str) -> None:
    # Given a quantizer and a cast, both with their defaults / Then it may follow
    assert codes_of(step(quantizer), step("cast")) == []
    # And where they part the layers between them, before it too
    assert codes_of(step("cast", include=["fc"]), step("quantize_dynamic", exclude=["fc"])) == []
    assert codes_of(step("cast"), step("quantize_dynamic")) == [("/steps/1", "already_quantized")]


def test_a_second_cast_finds_nothing_left() -> None:
    # Given everything cast / When it is cast again / Then it is refused
    assert codes_of(step("cast"), step("cast", to="bfloat16")) == [("/steps/1", "already_quantized")]
    assert codes_of(step("cast", include=["fc"]), step("cast", to="bfloat16")) == []


def test_what_is_cast_is_not_trained_any_more() -> None:
    # Given a cast / When training follows / Then it is refused
    assert codes_of(step("cast"), step("fine_tune")) == [("/steps/1", "wrong_order")]


@pytest.mark.parametrize(
    ("method", "form", "held"),
    [
        ("quantize_static", "openvino", True),
        ("quantize_dynamic", "openvino", False),
        ("quantize_static", "torch_export", False),
        ("quantize_dynamic", "torch_export", True),
        ("quantize_weights", "torch_export", True),
        ("cast", "torch_export", True),
        ("quantize_static", "torch_inductor", True),
        ("quantize_dynamic", "torch_inductor", True),
        ("quantize_weights", "torch_inductor", True),
        ("quantize_static", "executorch", True),
        ("quantize_dynamic", "executorch", True),
        ("quantize_weights", "executorch", False),
        ("cast", "executorch", False),
    ],
)
def test_a_format_that_cannot_hold_what_a_step_makes_is_pointed_at(method: str, form: str, held: bool) -> None:
    # Given a step and formats / When what the step plans is asked for, then the format that cannot hold it is named
    options = JobOptions.model_validate({"steps": [{"method": method}], "outputs": ["onnx", form]})
    faults = list(faults_of_outputs(options))
    assert [fault.pointer for fault in faults] == ([] if held else ["/outputs/1"])
    assert all(method in fault.detail and form in fault.detail for fault in faults)
    # And without the plan every format holds the network
    plain = {"steps": [{"method": method}], "outputs": [{"format": form, "precision": "float32"}]}
    assert list(faults_of_outputs(JobOptions.model_validate(plain))) == []


def test_codes_of_weights_that_become_integers_are_held() -> None:
    # Given weights that are stored as codes, and then activations with codes beside them / When both are asked for
    steps = [{"method": "quantize_weights"}, {"method": "quantize_static"}]
    options = JobOptions.model_validate({"steps": steps, "outputs": ["executorch"]})
    # Then the format that multiplies integers alone holds them, and the other order is refused
    assert list(faults_of_outputs(options)) == []
    turned = JobOptions.model_validate({"steps": steps[::-1], "outputs": ["executorch"]})
    assert [fault.pointer for fault in faults_of_outputs(turned)] == ["/outputs/0"]


@pytest.mark.parametrize(
    ("steps", "output", "right"),
    [
        ([{"method": "quantize_static"}], {"format": "openvino"}, True),
        ([{"method": "prune_channels", "ratio": 0.5}, {"method": "quantize_static", "exclude": ["fc"]}], {}, True),
        ([{"method": "quantize_static"}], {"format": "onnx"}, False),
        ([{"method": "quantize_static"}], {"precision": "float32"}, False),
        ([{"method": "quantize_static", "bits": 4}], {}, False),
        ([{"method": "quantize_static", "activation_bits": 4}], {}, False),
        ([{"method": "quantize_weights", "include": ["fc"]}, {"method": "quantize_static"}], {}, False),
        ([{"method": "quantize_aware"}], {}, False),
        ([{"method": "prune_channels", "ratio": 0.5}], {}, False),
        ([], {}, False),
    ],
)
def test_nncf_takes_the_place_of_quantize_static_alone(
    steps: list[dict[str, object]], output: dict[str, object], right: bool
) -> None:
    # Given steps, and a file whose integers NNCF shall choose
    wanted = {"format": "openvino", "options": {"quantizer": "nncf"}} | output
    options = JobOptions.model_validate({"steps": steps, "outputs": ["onnx", wanted]})
    # When they are judged, then it is refused where the job says nothing of INT8 by measured ranges
    found = list(faults_of_quantizers(options, frozenset({Role.EVALUATION})))
    told = [] if right else [("/outputs/1/options/quantizer", "invalid_spec")]
    assert [(fault.pointer, fault.code) for fault in found] == told
    # And without images to be right on it is refused anyway
    blind = list(faults_of_quantizers(options, frozenset({Role.CALIBRATION})))
    assert [fault.code for fault in blind] == ["missing_data", *(code for _, code in told)]


def test_classes_are_chosen_once() -> None:
    # Given two steps that each keep some classes / When one follows the other / Then the second is told where
    steps = [step("lighten", keep_classes=["cat", "dog", 7]), step("lighten"), step("lighten", keep_classes=[0, 1])]

    def found(*steps: Step) -> list[tuple[str, str]]:
        options = JobOptions.model_validate({"steps": steps})
        return [(fault.pointer, fault.code) for fault in faults(options, data=frozenset(), untrained=False)]

    assert found(*steps) == [("/steps/2/keep_classes", "invalid_spec")]
    assert found(*steps[:2]) == []
