"""What a job works with: the images of all roles have classes numbered as the model's outputs are."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.materials import Materials, read_materials
from compressor.order import DataInput
from contract.dataset import DatasetFormat
from contract.failures import ClassesMismatch
from contract.methods import Role
from contract.methods.prune import PruneWeights
from contract.model import ModelFormat
from tests.unit.compressor.small_jobs import order, spec, trained_candidate, write_weights

ALL = ("blue", "green", "olive", "red")


def write_folders(path: Path, names: tuple[str, ...]) -> DataInput:
    """An archive with an image in a folder of each of these names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            buffer = io.BytesIO()
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, format="PNG")
            archive.writestr(f"{name}/1.png", buffer.getvalue())
    return DataInput(path, DatasetFormat.IMAGE_FOLDER_ZIP)


def materials(folder: Path, **datasets: tuple[str, ...]) -> Materials:
    """Those of a job whose model tells four classes apart and has no names for them."""
    weights = write_weights(trained_candidate().module, folder / "weights.safetensors")
    job = order(folder, weights, spec(PruneWeights(), roles=()))
    found = {Role(role): write_folders(folder / f"{role}.zip", names) for role, names in datasets.items()}
    return read_materials(replace(job, inputs=replace(job.inputs, datasets=found)))


@pytest.mark.parametrize("fewer", ["evaluation", "train"])
def test_a_dataset_without_some_classes_is_numbered_as_the_one_with_all(tmp_path: Path, fewer: str) -> None:
    # Given a dataset with a folder for each output, and one that has none of two classes
    other = {"evaluation": "train", "train": "evaluation"}[fewer]
    # When both are read
    found = materials(tmp_path, **{other: ALL, fewer: ("green", "red")})
    # Then a class has the same number in both, which is that of the output, and the model has its names
    images = {"evaluation": found.evaluation, "train": found.train}[fewer]
    assert images is not None
    assert images.labels.tolist() == [1, 3]
    assert found.original.classes == ALL


def test_a_class_that_only_one_dataset_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClassesMismatch, match="evaluation data has a class 'violet', which the other data"):
        materials(tmp_path, train=ALL, evaluation=("blue", "violet"))


def test_fewer_classes_than_outputs_are_not_guessed(tmp_path: Path) -> None:
    # Given folders for some of the outputs, and nobody who says which these are / When they are read / Then
    with pytest.raises(ClassesMismatch, match="2 class folders, and the model 4 outputs without names"):
        materials(tmp_path, evaluation=("green", "red"))


def test_of_floats_that_are_not_normalized_a_job_says_so_once(tmp_path: Path) -> None:
    # Given floats from 0 to 255 to learn from and to judge by, and bytes to calibrate with
    weights = write_weights(trained_candidate().module, tmp_path / "weights.safetensors")
    job = order(tmp_path, weights, spec(PruneWeights(), roles=()))
    pixels = np.linspace(0, 255, 4 * 3 * 32 * 32, dtype=np.float32).reshape(4, 3, 32, 32)
    floats, pictures = (DataInput(tmp_path / name, DatasetFormat.NPZ) for name in ("floats.npz", "bytes.npz"))
    np.savez(floats.path, x=pixels, y=np.arange(4))
    np.savez(pictures.path, x=pixels.astype(np.uint8).transpose(0, 2, 3, 1), y=np.arange(4))
    datasets = {Role.TRAIN: floats, Role.EVALUATION: floats, Role.CALIBRATION: pictures}
    # When they are read / Then it is told of one of the two roles
    found = read_materials(replace(job, inputs=replace(job.inputs, datasets=datasets))).notices
    assert [notice.code for notice in found] == ["data_not_normalized"]
    assert "0 to 255" in found[0].detail


def test_of_a_file_with_two_sets_of_weights_a_job_says_which_it_took(tmp_path: Path) -> None:
    # Given a checkpoint as timm leaves it, with the weights' average beside them, for the model and for its teacher
    state = trained_candidate().module.state_dict()
    path = tmp_path / "last.pt"
    torch.save({"state_dict": state, "state_dict_ema": {name: tensor + 1 for name, tensor in state.items()}}, path)
    job = order(tmp_path, path, spec(PruneWeights(), roles=()))
    model = replace(job.inputs.model, source=replace(job.inputs.model.source, format=ModelFormat.PT))
    # When they are read / Then each is told of
    found = read_materials(replace(job, inputs=replace(job.inputs, model=model, others={"teacher": model}))).notices
    assert [notice.code for notice in found] == ["other_weights_in_file"] * 2
    assert "The file of teacher holds weights as state_dict and as state_dict_ema" in found[1].detail
