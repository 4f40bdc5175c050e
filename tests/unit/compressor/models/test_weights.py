"""Weights from files nobody trusts."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compressor.models.weights import load_into, other_weights, read_weights
from contract.failures import (
    ExecutableModelNotAllowed,
    Failure,
    InvalidModel,
    NonFiniteWeights,
    PickleNotAllowed,
    WeightsMismatch,
)
from contract.model import ModelFormat


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_wrappers_and_prefixes_are_understood(tmp_path: Path, wrap: object, prefix: str) -> None:
    # Given a state_dict as training code saves it
    state = {prefix + name: tensor for name, tensor in network().state_dict().items()}
    path = saved(tmp_path / "w.pt", wrap(state))  # type: ignore[operator]
    # When it is read and loaded
    module = network()
    load_into(module, read_weights(path, ModelFormat.PT))
    # Then the network has these weights
    assert torch.equal(module[0].weight, state[f"{prefix}0.weight"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"n_averaged": torch.tensor(3), **{f"module.{name}": t for name, t in s.items()}},
        lambda s: {"state_dict": {"criterion.weight": torch.ones(2), **{f"model.{n}": t for n, t in s.items()}}},
        lambda s: {**s, "total_ops": torch.tensor(1.0), "0.total_params": torch.tensor(1.0)},
        lambda s: {"model": {"state_dict": s, "epoch": 3}},
        lambda s: {"model_ema": s},
    ],
    ids=["an average", "a loss", "a count of operations", "a wrapper in another", "an average by its name"],
)
def test_what_training_code_leaves_beside_weights_does_not_matter(tmp_path: Path, wrap: object) -> None:
    # Given a state_dict with something beside it / When it is read and loaded / Then the network has its weights
    state, module = network().state_dict(), network()
    load_into(module, read_weights(saved(tmp_path / "w.pt", wrap(state)), ModelFormat.PT))  # type: ignore[operator]
    assert torch.equal(module[0].weight, state["0.weight"])


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda s, t: {"state_dict_ema": t, "state_dict": s, "epoch": 3}, ("state_dict", "state_dict_ema")),
        (lambda s, t: {"model": {"state_dict": s, "ema": t}}, ("state_dict", "ema")),
        (lambda s, t: {"state_dict": s, "optimizer": {"state": {0: t}}}, None),
        (lambda s, t: s, None),
    ],
    ids=["an average", "within a wrapper", "an optimizer", "weights alone"],
)
def test_a_file_says_which_of_its_weights_are_taken(
    tmp_path: Path, wrap: Callable[[object, object], object], found: tuple[str, str] | None
) -> None:
    # Given weights with others beside them / When they are asked for and read
    state, others = network().state_dict(), network().state_dict()
    path = saved(tmp_path / "w.pt", wrap(state, others))
    # Then both are named, and the first are taken
    assert other_weights(path, ModelFormat.PT) == found
    assert torch.equal(read_weights(path, ModelFormat.PT)["0.weight"], state["0.weight"])


def test_a_layer_that_is_called_like_a_loss_is_a_layer() -> None:
    # Given a network with a layer of that name / When its weights are loaded / Then that layer has its own
    first, second = (nn.ModuleDict({"loss": nn.Linear(2, 2)}) for _ in range(2))
    load_into(second, first.state_dict())
    assert torch.equal(first["loss"].weight, second["loss"].weight)


def test_a_file_may_be_called_as_parts_of_programs_are(tmp_path: Path) -> None:
    # Given weights in a file called code.pt, after which torch names the folder in it / When they are read
    path = saved(tmp_path / "code.pt", network().state_dict())
    assert "code/data.pkl" in zipfile.ZipFile(path).namelist()
    # Then that is no program
    assert read_weights(path, ModelFormat.PT)


def test_what_a_checkpoint_holds_beside_tensors_is_named(tmp_path: Path) -> None:
    # Given a checkpoint with a number of numpy's / When it is read / Then it is said what must not be in it
    path = saved(tmp_path / "w.pt", {"state_dict": network().state_dict(), "best": np.float64(0.9)})
    with pytest.raises(PickleNotAllowed, match=r"\(numpy\S*scalar\).*Save the state_dict alone"):
        read_weights(path, ModelFormat.PT)


@pytest.mark.parametrize("raw", [b"\x80\x02.", b"\x80\x02X\xff", b"\x80\x02K\x01Q."])
def test_broken_pickles_are_no_models(tmp_path: Path, raw: bytes) -> None:
    # Given the archive of a state_dict whose pickle breaks off / When it is read / Then it is said to be unreadable
    path = tmp_path / "w.pt"
    with (
        zipfile.ZipFile(saved(tmp_path / "whole.pt", network().state_dict())) as whole,
        zipfile.ZipFile(path, "w") as out,
    ):
        for entry in whole.infolist():
            name = entry.filename.replace("whole/", "w/")
            out.writestr(name, raw if name == "w/data.pkl" else whole.read(entry))
    with pytest.raises((InvalidModel, PickleNotAllowed)):
        read_weights(path, ModelFormat.PT)


def test_halves_become_floats(tmp_path: Path) -> None:
    # Given weights in half precision / When they are read / Then they are float32 of the same values
    save_file({"w": torch.tensor([0.5, 2.0], dtype=torch.bfloat16)}, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors", ModelFormat.SAFETENSORS)["w"]
    assert (found.dtype, found.tolist()) == (torch.float32, [0.5, 2.0])


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


def test_nothing_uploaded_is_executed(tmp_path: Path) -> None:
    # Given pickles that would leave a trace, in every shape in which a .pt may come
    canary = tmp_path / "canary"
    files = [
        saved(tmp_path / "zip.pt", {"w": torch.zeros(1), "x": Canary(canary)}),
        tmp_path / "legacy.pt",
        tmp_path / "raw.pt",
    ]
    torch.save({"x": Canary(canary)}, files[1], _use_new_zipfile_serialization=False)
    files[2].write_bytes(pickle.dumps(Canary(canary)))
    # When they are read
    for file in files:
        with pytest.raises(PickleNotAllowed):
            read_weights(file, ModelFormat.PT)
    # Then nothing ran
    assert not canary.exists()


def test_programs_are_refused(tmp_path: Path) -> None:
    # Given a scripted network / When it is read as a state_dict / Then it is refused by name
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(ExecutableModelNotAllowed):
        read_weights(tmp_path / "m.pt", ModelFormat.PT)


def expanded() -> dict[str, torch.Tensor]:
    return {"w": torch.zeros(1).expand(1 << 20, 1 << 20)}


def sparse() -> dict[str, torch.Tensor]:
    return {"w": torch.eye(3).to_sparse()}


def quantized() -> dict[str, torch.Tensor]:
    return {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}


@pytest.mark.parametrize(
    "content", [expanded, sparse, [1, 2], {"w": "text"}, {"w": torch.zeros(2, dtype=torch.complex64)}]
)
def test_what_is_no_dense_tensor_is_refused(tmp_path: Path, content: object) -> None:
    # Given a .pt with something else in it / When it is read / Then it is refused, and no memory is taken for it
    path = saved(tmp_path / "w.pt", content() if callable(content) else content)
    with pytest.raises(InvalidModel):
        read_weights(path, ModelFormat.PT)


def header(said: object, data: int = 0) -> bytes:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def tensor(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x01", bytes(8), (2**63).to_bytes(8, "little") + b"{}", (100).to_bytes(8, "little") + b"{}",
        header(b"no json"), header(b"\xff\xfe{}"), header([]), header(b'{"w":' * 2000),
        header(tensor()), header(tensor(offsets=(0, 400)), 4), header(tensor(offsets=(2, 6)), 6),
        header(tensor(shape=(4194305, 4194305, 211106198978564)), 4), header(tensor(dtype="NONE"), 4),
        header(tensor(shape=(-1,)), 4), header(tensor(), 9), header(tensor(shape=(0, 2**40)), 4),
        header(b'{"w":%s,"w":%s}' % ((b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}',) * 2), 4),
    ],
)  # fmt: skip
def test_hostile_safetensors_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    # Given a file that lies / When it is read / Then the failure has a name and no path in it
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidModel) as caught:
        read_weights(path, ModelFormat.SAFETENSORS)
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize("part", range(1, 16))
def test_truncated_files_are_refused_by_name(tmp_path: Path, part: int) -> None:
    # Given files of both formats that break off / When they are read / Then that is a named failure
    buffer = io.BytesIO()
    torch.save(network().state_dict(), buffer)
    save_file(network().state_dict(), tmp_path / "whole")
    for format, whole in [
        (ModelFormat.PT, buffer.getvalue()),
        (ModelFormat.SAFETENSORS, (tmp_path / "whole").read_bytes()),
    ]:
        path = tmp_path / f"part.{format}"
        path.write_bytes(whole[: len(whole) * part // 16])
        with pytest.raises(Failure):
            read_weights(path, format)


def test_nan_is_named(tmp_path: Path) -> None:
    # Given one weight that is NaN / When it is read / Then the tensor is named
    save_file({"layer.w": torch.tensor([1.0, float("nan")])}, tmp_path / "w.safetensors")
    with pytest.raises(NonFiniteWeights, match=r"layer\.w") as caught:
        read_weights(tmp_path / "w.safetensors", ModelFormat.SAFETENSORS)
    assert caught.value.layer == "layer"


def test_weights_that_do_not_fit_name_what_is_wrong() -> None:
    # Given weights with a tensor missing, one too many and one of another shape
    state = network().state_dict()
    state["extra"] = state.pop("0.bias")
    state["3.weight"] = torch.zeros(7, 4)
    # When they are loaded / Then all three are named
    with pytest.raises(WeightsMismatch) as caught:
        load_into(network(), state)
    for words in (
        "0.bias is missing",
        "extra is unknown",
        "3.weight is [7, 4] in the file and [10, 4] in the architecture",
    ):
        assert words in caught.value.detail


def test_another_number_of_classes_is_recognized() -> None:
    # Given weights whose classifier alone has other rows
    state = network().state_dict() | {"3.weight": torch.zeros(7, 4), "3.bias": torch.zeros(7)}
    # When they are loaded / Then the number that would fit is told
    with pytest.raises(WeightsMismatch, match="The file fits num_classes=7"):
        load_into(network(), state)
