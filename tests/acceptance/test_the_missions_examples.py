"""What the people who asked for this project wrote down, each as one job."""

from pathlib import Path

import pytest

from contract.job import Job, JobState
from modelpress import load_model
from modelpress.client import Client
from tests.acceptance.models import INPUT, architecture, weights_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where weights are made and artifacts land."""
    return tmp_path_factory.mktemp("examples")


def upload(client: Client, folder: Path, name: str, **options: int) -> str:
    path = weights_file(folder, name, **options)
    return client.upload_model(path, architecture=architecture(name, **options), preprocessing=INPUT).id


def succeeded(client: Client, spec: dict[str, object]) -> Job:
    job = client.wait(client.submit(spec).id)
    assert job.state is JobState.SUCCEEDED, job.error
    return job


def test_half_of_conv1_alone_is_pruned_by_l1(client: Client, folder: Path) -> None:
    # Given a ResNet-18
    model = upload(client, folder, "resnet18", num_classes=10)
    # When half of the weights of conv1 alone are pruned by magnitude
    steps = [{"method": "prune_weights", "importance": "l1", "amount": 0.5, "include": ["conv1"]}]
    job = succeeded(client, {"model": model, "steps": steps, "outputs": ["safetensors"]})
    # Then the report says so within one weight, and no other layer has zeros
    assert job.steps[0].report is not None
    layers = {layer.name: layer for layer in job.steps[0].report.layers}
    conv1 = layers.pop("conv1")
    assert abs(conv1.zeros * 64 * 3 * 7 * 7 - 0.5 * 64 * 3 * 7 * 7) <= 1
    assert all(layer.zeros == 0 for layer in layers.values())
    # And the job does not pretend that zeros are faster
    assert "masked_only" in {warning.code for warning in job.warnings}
    # And the delivered file has those zeros
    client.download(job.id, folder / "conv1")
    weight = load_model(folder / "conv1").get_parameter("conv1.weight")
    assert abs(int((weight == 0).sum()) - 4704) <= 1


def test_dynamic_quantization_of_a_resnet_touches_fc_only(client: Client, folder: Path) -> None:
    # Given a ResNet-18, whose only linear layer is fc
    model = upload(client, folder, "resnet18", num_classes=1000)
    # When it is quantized dynamically
    job = succeeded(client, {"model": model, "steps": [{"method": "quantize_dynamic"}], "outputs": ["onnx"]})
    # Then only fc has fewer bits, the file shrinks by fc's share, and the job says how little that is
    assert job.steps[0].report is not None
    assert {layer.name for layer in job.steps[0].report.layers if layer.bits < 32} == {"fc"}
    assert job.report is not None
    assert 0.96 <= job.report.ratio.size_bytes <= 0.975
    assert "little_to_quantize" in {warning.code for warning in job.warnings}


def test_a_larger_teacher_teaches_a_resnet18_by_squared_error(
    client: Client, folder: Path, train: str, evaluation: str
) -> None:
    # Given a larger network
    teacher = upload(client, folder, "resnet34", num_classes=10)
    # When a ResNet-18 learns its logits by squared error with Adam at 1e-3
    step = {
        "method": "distill", "objective": "mse", "alpha": 1.0, "optimizer": "adam", "learning_rate": 1e-3,
        "epochs": 1, "batch_size": 32, "student": architecture("resnet18"),
    }  # fmt: skip
    job = succeeded(
        client,
        {
            "model": teacher,
            "data": {"train": train, "evaluation": evaluation},
            "steps": [step],
            "outputs": ["safetensors"],
        },
    )
    # Then the delivered network is a ResNet-18 with the teacher's classes, about half as large
    assert job.report is not None
    assert 0.45 <= job.report.ratio.parameters <= 0.6
    client.download(job.id, folder / "student")
    assert load_model(folder / "student").get_parameter("fc.weight").shape == (10, 512)
    # And its accuracy was measured on the delivered file
    assert job.report.compressed.accuracy is not None
    assert job.report.compressed.accuracy.n == 64


def test_mobilenet_v2_is_the_light_replacement(client: Client, folder: Path, train: str, evaluation: str) -> None:
    # Given a ResNet-18
    model = upload(client, folder, "resnet18", num_classes=10)
    # When MobileNetV2 takes its place and learns from it
    steps = [
        {"method": "replace_architecture", "architecture": architecture("mobilenet_v2")},
        {"method": "distill", "epochs": 1, "batch_size": 32},
    ]
    data = {"train": train, "evaluation": evaluation}
    job = succeeded(client, {"model": model, "data": data, "steps": steps})
    # Then what is delivered has a fifth of the parameters, and runs
    assert job.report is not None
    assert 0.15 <= job.report.ratio.parameters <= 0.25
    assert {file.filename for file in job.artifacts} >= {"model.onnx", "model.safetensors", "model.json"}
    assert all(
        file.verified for file in job.artifacts if file.filename.startswith("model.") and file.format != "model_json"
    )


def test_sparsity_and_low_bits_in_one_pipeline(client: Client, folder: Path, train: str, evaluation: str) -> None:
    # Given a ResNet-18
    model = upload(client, folder, "resnet18", num_classes=10)
    # When most of its weights are zeroed, it recovers, and it is quantized to INT8
    steps = [
        {"method": "prune_weights", "amount": 0.8, "scope": "global"},
        {"method": "fine_tune", "epochs": 1, "batch_size": 32},
        {"method": "quantize_static", "samples": 64},
    ]
    data = {"train": train, "evaluation": evaluation}
    job = succeeded(client, {"model": model, "data": data, "steps": steps, "outputs": ["onnx"]})
    # Then the zeros have come through training and quantization
    assert [step.report.zeros >= 0.79 for step in job.steps if step.report] == [True, True, True]
    # And the delivered ONNX file is a quarter as large and computes in integers
    onnx = next(file for file in job.artifacts if file.format == "onnx")
    assert onnx.verified is not None
    assert onnx.verified.int8_macs_fraction is not None
    assert onnx.verified.int8_macs_fraction > 0.99
    assert job.report is not None
    assert job.report.ratio.size_bytes < 0.3
