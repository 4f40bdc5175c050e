"""What a job wants."""

from typing import Any

import pytest

from contract.spec import JobSpec
from storage import requirements
from tests.integration.storage.house import card

MODEL, TEACHER, DATA = "mdl_" + "0" * 26, "mdl_" + "1" * 26, "dat_" + "0" * 26


def _spec(**changes: Any) -> JobSpec:
    plain = {"model": {"architecture": {"name": "resnet18"}, "weights": "none"}}
    return JobSpec.model_validate(plain | changes)


@pytest.mark.parametrize(
    ("device", "outputs", "devices", "formats", "fits"),
    [
        ("auto", ["onnx"], ["cpu"], ["onnx", "safetensors"], True),
        ("cpu", ["onnx"], ["cpu"], ["onnx"], True),
        ("cuda", ["onnx"], ["cpu"], ["onnx"], False),
        ("cuda", ["onnx"], ["cpu", "cuda"], ["onnx"], True),
        ("auto", ["onnx", "safetensors"], ["cpu"], ["onnx"], False),
    ],
)
def test_a_worker_fits_a_job_where_it_offers_all_its_needs(
    device: str, outputs: list[str], devices: list[str], formats: list[str], fits: bool
) -> None:
    # Given a job and a worker, when needs and offers are compared, then the worker fits or not
    needs = requirements.needs(_spec(device=device, outputs=outputs))
    assert (needs <= requirements.offers(card(devices=devices, outputs=formats))) is fits


@pytest.mark.parametrize(("quantizers", "fits"), [(["plan"], False), (["plan", "nncf"], True)])
def test_a_worker_fits_a_job_where_it_has_its_quantizer(quantizers: list[str], fits: bool) -> None:
    # Given a job that wants the integers of NNCF, and a worker, when they are compared, then the worker has it or not
    outputs = ["openvino", {"format": "openvino", "options": {"quantizer": "nncf"}}]
    worker = card(devices=["cpu"], outputs=["openvino"], quantizers=quantizers)
    assert (requirements.needs(_spec(outputs=outputs)) <= requirements.offers(worker)) is fits
    # And without it every worker fits that writes the format
    assert requirements.needs(_spec(outputs=outputs[:1])) <= requirements.offers(worker)


def test_every_resource_that_a_spec_names_is_an_input() -> None:
    # Given a spec with a model, data and two teachers, one of which is its own
    spec = _spec(
        model=MODEL,
        data={"train": DATA, "evaluation": DATA},
        steps=[{"method": "distill"}, {"method": "distill", "teacher": TEACHER}],
    )

    # When its inputs are listed, then each is there with the place that names it
    assert list(requirements.inputs(spec)) == [
        ("/model", MODEL),
        ("/data/train", DATA),
        ("/data/evaluation", DATA),
        ("/steps/1/teacher", TEACHER),
    ]


def test_a_spec_without_weights_has_no_inputs() -> None:
    # Given a spec that starts from nothing, when its inputs are listed, then there is none
    assert list(requirements.inputs(_spec())) == []


def test_equal_specs_have_equal_fingerprints() -> None:
    # Given specs, when their fingerprints are compared, then they are equal where the specs are
    assert requirements.fingerprint(_spec(seed=1)) == requirements.fingerprint(_spec(seed=1))
    assert requirements.fingerprint(_spec(seed=1)) != requirements.fingerprint(_spec(seed=2))


def test_all_who_teach_and_learn_are_inputs() -> None:
    # Given a spec in which several teach, and another model learns
    step = {"method": "distill", "teacher": ["original", TEACHER], "student": DATA.replace("dat_", "mdl_")}
    # When its inputs are listed / Then those that are uploaded are there
    assert list(requirements.inputs(_spec(steps=[{"method": "cast"}, step]))) == [
        ("/steps/1/teacher/1", TEACHER),
        ("/steps/1/student", DATA.replace("dat_", "mdl_")),
    ]
