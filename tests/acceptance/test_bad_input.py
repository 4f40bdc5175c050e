"""Whatever is wrong is named, by code, where it stands."""

import io
import pickle
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from contract.job import JobState
from modelpress.client import Client
from tests.acceptance.models import INPUT, architecture, weights_file

SQUEEZENET = architecture("squeezenet1_1", num_classes=10)
UNKNOWN = "mdl_00000000000000000000000000"


@pytest.fixture(scope="module")
def model(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a small uploaded model."""
    path = weights_file(tmp_path_factory.mktemp("weights"), "squeezenet1_1", num_classes=10)
    return client.upload_model(path, architecture=SQUEEZENET, preprocessing=INPUT).id


def problem_of(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    return dict(answer.json())


@pytest.mark.parametrize(
    ("spec", "status", "code", "pointer"),
    [
        ({"steps": [{"method": "prune_magic"}]}, 422, "unknown_method", "/steps/0/method"),
        ({"steps": [{"method": "prune_channels", "ratio": 1.5}]}, 422, "invalid_params", "/steps/0/ratio"),
        ({"steps": [{"method": "quantize_static"}]}, 422, "missing_data", "/steps/0"),
        ({"steps": [{"method": "distill"}]}, 422, "missing_data", "/steps/0"),
        ({"steps": [{"method": "quantize_dynamic"}, {"method": "prune_weights"}]}, 422, "wrong_order", "/steps/1"),
        ({"model": UNKNOWN}, 404, "not_found", "/model"),
        ({"data": {"train": "dat_00000000000000000000000000"}}, 404, "not_found", "/data/train"),
        ({"stepz": []}, 422, "invalid_spec", "/stepz"),
    ],
)
def test_a_wrong_spec_is_refused_with_a_pointer(
    http: httpx.Client, model: str, spec: dict[str, object], status: int, code: str, pointer: str
) -> None:
    # Given a spec with one thing wrong / When it is posted
    answer = http.post("/v1/jobs", json={"model": model, "steps": []} | spec)
    # Then the answer names it and points at it
    assert answer.status_code == status, answer.text
    problem = problem_of(answer)
    faults = problem["errors"]
    assert isinstance(faults, list)
    assert (faults[0]["code"], faults[0]["pointer"]) == (code, pointer)


def scripted() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/constants.pkl", b"\x80\x02].")
        archive.writestr("model/code/__torch__.py", "class M: pass")
        archive.writestr("model/data.pkl", b"\x80\x02].")
        archive.writestr("model/version", "3\n")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (pickle.dumps({"weights": [1.0]}), "pickle_not_allowed"),
        (scripted(), "executable_model_not_allowed"),
        (b"\x1f\x8b\x08" + bytes(64), "unsupported_format"),
        (bytes(257) + b"ustar\x0000" + bytes(512), "unsupported_format"),
    ],
    ids=["pickle", "torchscript", "gzip", "tar"],
)
def test_files_that_could_run_code_are_refused(http: httpx.Client, content: bytes, code: str) -> None:
    # Given a model that waits for its weights
    body = {"architecture": SQUEEZENET, "format": "pt"}
    created = http.post("/v1/models", json=body).json()
    # When something else than a state_dict arrives
    answer = http.put(created["links"]["content"], content=content)
    # Then it is refused by name, and the model still waits
    assert answer.status_code == 415, answer.text
    assert problem_of(answer)["code"] == code
    assert http.get(created["links"]["self"]).json()["state"] == "awaiting_content"


def test_weights_that_do_not_fit_are_named(client: Client, tmp_path: Path) -> None:
    # Given weights of another width, one tensor missing and one too many
    path = weights_file(tmp_path, "squeezenet1_1", num_classes=7)
    tensors = load_file(path) | {"stranger": torch.zeros(2)}
    del tensors["features.0.bias"]
    save_file(tensors, path)
    model = client.upload_model(path, architecture=SQUEEZENET, preprocessing=INPUT).id
    # When they are used
    job = client.wait(client.submit({"model": model, "outputs": ["safetensors"]}).id)
    # Then the job fails and names all three
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "weights_mismatch"
    assert all(name in job.error.detail for name in ("features.0.bias", "stranger", "classifier.1"))


def test_weights_with_nan_are_named(client: Client, tmp_path: Path) -> None:
    # Given weights of which one is NaN
    path = weights_file(tmp_path, "squeezenet1_1", num_classes=10)
    tensors = load_file(path)
    tensors["features.0.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, path)
    model = client.upload_model(path, architecture=SQUEEZENET, preprocessing=INPUT).id
    # When they are used
    job = client.wait(client.submit({"model": model, "outputs": ["safetensors"]}).id)
    # Then the job fails and names the tensor
    assert job.error is not None
    assert job.error.code == "non_finite_weights"
    assert "features.0.weight" in job.error.detail


def test_a_teacher_of_other_classes_is_named(client: Client, model: str, train: str, tmp_path: Path) -> None:
    # Given a model of ten classes, and one of seven
    path = weights_file(tmp_path, "squeezenet1_1", num_classes=7)
    architecture_of_seven = architecture("squeezenet1_1", num_classes=7)
    teacher = client.upload_model(path, architecture=architecture_of_seven, preprocessing=INPUT).id
    # When the first is to learn from the second what that answers, behind another step
    steps = [{"method": "prune_weights"}, {"method": "distill", "teacher": teacher}]
    job = client.wait(client.submit({"model": model, "data": {"train": train}, "steps": steps}).id)
    # Then the job fails before its first step, and says which teacher it was
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.code == "classes_mismatch"
    assert "7 classes" in job.error.detail
    assert [fault.pointer for fault in job.error.errors] == ["/steps/1/teacher"]


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (archive(**{"..__up__a.png": png(), "b__b.png": png()}), "unsafe_archive"),
        (archive(**{"a__a.png": b"not an image", "b__b.png": png()}), "invalid_image"),
        (archive(**{"a__1.png": png(), "a__2.png": png()}), "single_class"),
        (archive(**{"a__1.png": bytes(64_000_000), "b__1.png": png()}), "archive_bomb"),
    ],
    ids=["traversal", "no image", "one class", "bomb"],
)
def test_datasets_nobody_should_read_are_named(
    client: Client, model: str, tmp_path: Path, content: bytes, code: str
) -> None:
    # Given an archive that is wrong
    path = tmp_path / "data.zip"
    path.write_bytes(content)
    data = client.upload_dataset(path).id
    # When a job reads it
    job = client.wait(client.submit({"model": model, "data": {"evaluation": data}, "outputs": ["safetensors"]}).id)
    # Then it fails by name, and says nothing of the machine it ran on
    assert job.error is not None
    assert job.error.code == code
    assert "/tmp" not in job.error.model_dump_json()
