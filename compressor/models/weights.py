"""Weights from files nobody trusts, into networks they may not fit."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from contract.failures import (
    ExecutableModelNotAllowed,
    InvalidModel,
    NonFiniteWeights,
    PickleNotAllowed,
    WeightsMismatch,
)
from contract.model import ModelFormat
from contract.programs import is_program

#: Bytes of a safetensors header, and tensors in a file: far above what the largest published networks need.
MAX_HEADER, MAX_TENSORS = 16 * 1024**2, 50_000

_DTYPES = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    }
)  # fmt: skip
#: What training code wraps around a state_dict, and before its names.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema", "ema_state_dict", "ema",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
#: Heads that GoogLeNet and Inception have for training only, and counters that inference does not read.
_IGNORED = ("aux1.", "aux2.", "AuxLogits.")
_COUNTER = "num_batches_tracked"
#: What averages of weights, losses and counters of operations leave beside a network's tensors.
_BESIDE = re.compile(r"n_averaged|(criterion|loss|loss_fn)\..*|(.*\.)?total_(ops|params)")
#: In what torch says of a pickle that holds something else than tensors.
_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_weights(path: Path, format: ModelFormat) -> dict[str, Tensor]:
    """The file's tensors by name: dense, finite, floating ones as float32.

    Raises `InvalidModel`, `PickleNotAllowed`, `ExecutableModelNotAllowed` or `NonFiniteWeights`.
    """
    raw = read_safetensors(path) if format is ModelFormat.SAFETENSORS else _read_state_dict(path)
    return {name: _checked(name, tensor) for name, tensor in raw.items()}


def other_weights(path: Path, format: ModelFormat) -> tuple[str, str] | None:
    """What the file calls the weights that `read_weights` takes, and others beside them, such as their average.

    None where there are no others. Raises what `read_weights` does.
    """
    if format is ModelFormat.SAFETENSORS:
        return None
    # Mapped: of tensors nothing is read.
    content = _content(path, mmap=True)
    while isinstance(content, Mapping):
        found = _wrappers_in(content)
        if len(found) > 1:
            return found[0], found[1]
        content = content[found[0]] if found else None
    return None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as they are; raises `InvalidModel`."""
    _check_header(path)
    try:
        # Copied into memory that torch has aligned: on other addresses its kernels add in another order.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, ValueError, OverflowError, RuntimeError, KeyError) as error:
        raise InvalidModel(f"The safetensors file cannot be read: {_first_line(error)}") from error


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise InvalidModel(f"The safetensors header claims {length} bytes, of a file of {size} bytes.")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise InvalidModel("The safetensors header is no JSON, or names a tensor twice.") from error
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise InvalidModel(f"The safetensors header is no object of at most {MAX_TENSORS} tensors.")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has two members of one name")
    return found


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    tensors = _unwrapped(_content(path, mmap=False))
    for name, tensor in tensors.items():
        _check_storage(name, tensor)
    return tensors


def _content(path: Path, *, mmap: bool) -> object:
    _check_archive(path)
    try:
        return torch.load(path, weights_only=True, mmap=mmap, map_location="cpu")
    except pickle.UnpicklingError as error:
        found = _GLOBAL.search(str(error))
        more = f" ({found[1]})" if found else ""
        raise PickleNotAllowed(
            f"The .pt file holds more than tensors{more}, and nothing uploaded is executed. Save the state_dict alone."
        ) from error
    except Exception as error:
        # What the reader raises of broken pickles is anything: IndexError, struct.error, AssertionError and others.
        raise InvalidModel(f"The .pt file cannot be read: {_first_line(error)}") from error


def _check_archive(path: Path) -> None:
    """Only a zip as `torch.save` writes it of a state_dict goes on to `torch.load`."""
    if not zipfile.is_zipfile(path):
        raise PickleNotAllowed("The .pt file is not in the zip format that torch.save has written since 1.6.")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if is_program(entry.filename for entry in entries):
        raise ExecutableModelNotAllowed
    if len(entries) > 2 * MAX_TENSORS or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise InvalidModel("The .pt file is packed as torch.save does not pack.")


def _unwrapped(content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and (names := _wrappers_in(content)):
        content = content[names[0]]
    if not isinstance(content, Mapping):
        raise InvalidModel("The .pt file holds no state_dict.")
    stranger = next((str(name) for name, value in content.items() if not isinstance(value, Tensor)), None)
    if stranger is not None:
        raise InvalidModel(f"The .pt file holds no state_dict: {stranger} is no tensor.")
    if len(content) > MAX_TENSORS:
        raise InvalidModel(f"The .pt file holds more than {MAX_TENSORS} tensors.")
    return {str(name): value for name, value in content.items()}


def _wrappers_in(content: Mapping[object, object]) -> list[str]:
    """The entries that wrap weights; the first is what is taken."""
    return [name for name in _WRAPPERS if isinstance(content.get(name), Mapping)]


def _check_storage(name: str, tensor: Tensor) -> None:
    """Sparse, quantized and expanded tensors can be small in the file and huge in memory, or crash at first use."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu":
        raise InvalidModel(f"{name} is no dense tensor.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InvalidModel(f"{name} is larger than what the file holds of it.")


def _checked(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in _DTYPES:
        raise InvalidModel(f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}, which is not taken.")
    if not tensor.is_floating_point():
        return tensor.detach().contiguous()
    tensor = tensor.detach().to(torch.float32).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise NonFiniteWeights(f"{name} holds NaN or infinity.", layer=name.rpartition(".")[0])
    return tensor


def load_into(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give the network these weights; raises `WeightsMismatch` naming what is missing, unexpected and mis-shaped."""
    wanted = module.state_dict()
    weights = _renamed(weights, wanted)
    extra = {name for name in weights if name not in wanted and not name.startswith(_IGNORED)}
    missing = [name for name in wanted if name not in weights and not name.endswith(_COUNTER)]
    shapes = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if extra or missing or shapes:
        raise WeightsMismatch(_difference(weights, wanted, missing, sorted(extra), shapes))
    # Updated in place: the dictionary bears the versions of the modules, by which some of them read it.
    wanted.update({name: weights[name].to(tensor.dtype) for name, tensor in wanted.items() if name in weights})
    module.load_state_dict(wanted)


def _renamed(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what wrappers have put before their names, and beside them."""
    found = {name: tensor for name, tensor in weights.items() if name in wanted or not _BESIDE.fullmatch(name)}
    while prefix := next((p for p in _PREFIXES if found and all(n.startswith(p) for n in found)), None):
        if set(found) & set(wanted):
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _difference(
    weights: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    missing: list[str],
    extra: list[str],
    shapes: list[str],
) -> str:
    told = []
    if missing:
        told.append(f"{_listed(missing)} missing in the file")
    if extra:
        told.append(f"{_listed(extra)} unknown to the architecture")
    for name in shapes[:2]:
        told.append(
            f"{name} is {list(weights[name].shape)} in the file and {list(wanted[name].shape)} in the architecture"
        )
    told += [f"{len(shapes) - 2} more of another shape"] if len(shapes) > 2 else []
    hint = _classes_hint(weights, wanted, shapes)
    return "; ".join(told) + "." + hint


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more + (" is" if len(names) == 1 else " are")


def _classes_hint(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], shapes: list[str]) -> str:
    """Where only the classifier's rows differ, the number of classes is what is wrong."""
    rows = {(weights[n].shape[0], wanted[n].shape[0]) for n in shapes if wanted[n].dim() > 0 and weights[n].dim() > 0}
    same = all(weights[n].shape[1:] == wanted[n].shape[1:] for n in shapes)
    if len(rows) == 1 and same and len(shapes) <= 4:
        return f" The file fits num_classes={rows.pop()[0]}."
    return ""


def _first_line(error: Exception) -> str:
    """The reason without the places in the code or on the disk that some libraries add."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return " ".join(word for word in line.split() if "/" not in word)[:300]
