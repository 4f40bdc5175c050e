"""What this worker has, found out without loading torch."""

import hashlib
import os
import platform
import secrets
import shutil
import socket
import sysconfig
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil

from contract import host
from contract.artifact import OutputFormat, Quantizer
from contract.settings import Settings
from contract.worker import WorkerCard

#: Distributions whose versions a client may want to know.
_RUNTIMES = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "executorch",
    "torchao",
    "torch-pruning",
)
_ONNX = ("torch", "onnx", "onnxscript", "onnxruntime")
_OPENVINO = (*_ONNX, "openvino")
#: What must be installed for NNCF to quantize a network.
_NNCF = (*_OPENVINO, "nncf")
#: What must be installed to write and prove a format.
_NEEDED = {
    OutputFormat.SAFETENSORS: ("torch", "safetensors"),
    OutputFormat.ONNX: _ONNX,
    OutputFormat.OPENVINO: _OPENVINO,
    OutputFormat.TORCH_EXPORT: ("torch",),
    OutputFormat.TORCH_INDUCTOR: ("torch",),
    OutputFormat.EXECUTORCH: ("torch", "executorch"),
}
#: Where control groups, version 2 and version 1, tell of a memory limit.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def write_card(settings: Settings) -> WorkerCard:
    """The card of a worker that starts now."""
    return WorkerCard(
        id=f"wrk_{secrets.token_hex(8)}",
        host=socket.gethostname(),
        version=code_version(),
        slots=settings.slots,
        cores=host.cores(),
        memory_bytes=memory_bytes(),
        instruction_set=host.instruction_set(),
        devices=("cpu", "cuda") if cuda_is_there() else ("cpu",),
        runtimes=_versions(_RUNTIMES),
        outputs=_outputs(),
        quantizers=_quantizers(),
    )


def code_version() -> str:
    """The release and a digest of the code that turns a checkpoint into a result.

    Two workers with the same one compute the same from the same checkpoint.
    """
    digest = hashlib.sha256()
    for package in ("contract", "compressor"):
        for path in sorted(_folder(package).rglob("*.py")):
            digest.update(path.read_bytes())
    digest.update(repr(sorted(_versions(_RUNTIMES).items())).encode())
    return f"{metadata.version('modelpress')}+{digest.hexdigest()[:12]}"


def cuda_is_there(environ: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> bool:
    """Whether there is an NVIDIA device that this process may use and a torch that can."""
    hidden = environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    found = any(devices.glob("nvidia[0-9]*"))
    return found and not hidden and (_folder("torch") / "lib" / "libtorch_cuda.so").exists()


def memory_bytes(limits: Iterable[Path] = _MEMORY_LIMITS) -> int:
    """Memory that this process and its children may use."""
    told = (path.read_text().strip() for path in limits if path.exists())
    return min([psutil.virtual_memory().total, *(int(text) for text in told if text.isdigit())])


def _outputs() -> tuple[OutputFormat, ...]:
    """What can be written and proven here."""
    installed = (output for output, needed in _NEEDED.items() if _are_there(needed))
    return tuple(output for output in installed if output is not OutputFormat.TORCH_INDUCTOR or inductor_is_there())


def _quantizers() -> tuple[Quantizer, ...]:
    """Who can choose the integers of a file here."""
    return (Quantizer.PLAN, Quantizer.NNCF) if _are_there(_NNCF) else (Quantizer.PLAN,)


def inductor_is_there() -> bool:
    """Whether torch's inductor makes integer kernels here: on x86, with g++ and the headers of this Python."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return platform.machine() == "x86_64" and shutil.which("g++") is not None and headers.exists()


def _are_there(names: Collection[str]) -> bool:
    return len(_versions(names)) == len(names)


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {name: next(iter(metadata.distributions(name=name)), None) for name in names}
    return {name: distribution.version for name, distribution in found.items() if distribution is not None}


def _folder(package: str) -> Path:
    """Where a package lies; finding it does not load it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return Path(os.devnull)
    return Path(spec.submodule_search_locations[0])
