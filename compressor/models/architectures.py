"""Networks built by name from torchvision and timm: the architecture alone, never anybody's weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from compressor.models.torchvision_ops import torchvision
from compressor.models.uncompiled import without_compiler
from contract.failures import InvalidArchitecture
from contract.model import Architecture

#: Float32 parameters that one network may hold, in bytes.
MAX_BYTES = 16 * 1024**3

#: Options without which constructors build what answers with more than the logits while it trains, or changes images
#: before it sees them.
PLAIN = {
    "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False},
    "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": False},
}

_UPLOADED = "Weights are those that are uploaded."
#: Options that would read files of others, or say otherwise what is said elsewhere; and what to do instead.
_NO_OPTIONS = {
    **dict.fromkeys(
        ("pretrained", "weights", "checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"), _UPLOADED
    ),
    "in_chans": 'Of gray images, preprocessing has the channels "gray".',
}

#: What fills tensors with random numbers, and bends these to those of another distribution.
_RANDOM = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_})


@cache
def names(library: str) -> frozenset[str]:
    """Every classification architecture that the library builds."""
    if library == "torchvision":
        models = torchvision().models
        return frozenset(models.list_models(module=models))
    torchvision()  # Which timm imports, and which may need its operators declared.
    with without_compiler():
        import timm  # Half a second that torchvision's networks need not wait for.

    return frozenset(timm.list_models())


class _Unfilled(TorchFunctionMode):
    """Tensors without numbers get no random ones either: torch would load its compiler to do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What the function gives, or the tensor that it would have filled."""
        given = kwargs or {}
        if func in _RANDOM or getattr(func, "__module__", "") == nn.init.__name__:
            tensor = args[0] if args else given.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **given)


@contextmanager
def _hollow() -> Iterator[None]:
    """Within this block networks are built with shapes only."""
    with torch.device("meta"), _Unfilled():
        yield


def build(
    architecture: Architecture,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    device: str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """The network with seeded initial weights; on `meta` it has shapes only.

    Raises `InvalidArchitecture` where the library knows no such name or option, or the network is too large.
    """
    options = dict(architecture.options) | ({} if num_classes is None else {"num_classes": num_classes})
    construct = _constructor(architecture, options, in_channels)
    if device != "meta":
        _check_size_hollow(architecture, construct)
    with torch.random.fork_rng(devices=[]), _hollow() if device == "meta" else torch.device(device):
        torch.manual_seed(seed)
        module = _constructed(architecture, construct)
    _check_size(architecture, module)
    return module


def _constructor(architecture: Architecture, options: dict[str, Any], in_channels: int) -> Callable[[], nn.Module]:
    name, library = architecture.name, architecture.library
    if name not in names(library):
        close = get_close_matches(name, names(library), n=3)
        near = f" Did you mean {' or '.join(close)}?" if close else ""
        raise InvalidArchitecture(f"{library} has no architecture {name}.{near}")
    stranger = next((option for option in options if option in _NO_OPTIONS), None)
    if stranger is not None:
        raise InvalidArchitecture(f"{stranger} is no option that is taken. {_NO_OPTIONS[stranger]}")
    if library == "timm":
        import timm

        return lambda: timm.create_model(name, pretrained=False, in_chans=in_channels, **options)
    plain = PLAIN.get(name, {})
    return lambda: _with_channels(torchvision().models.get_model(name, weights=None, **(plain | options)), in_channels)


def _with_channels(module: nn.Module, in_channels: int) -> nn.Module:
    """The network with a first convolution for images of another number of channels."""
    if in_channels == 3:
        return module
    name, first = next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))
    padding = first.padding if isinstance(first.padding, str) else (first.padding[0], first.padding[1])
    new = nn.Conv2d(
        in_channels, first.out_channels, (first.kernel_size[0], first.kernel_size[1]),
        stride=(first.stride[0], first.stride[1]), padding=padding, bias=first.bias is not None,
    )  # fmt: skip
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
    return module


def _constructed(architecture: Architecture, construct: Callable[[], nn.Module]) -> nn.Module:
    try:
        return construct()
    except MemoryError:
        raise
    except Exception as error:
        # Constructors compute with whatever options they are given, and fail as they may.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidArchitecture(
            f"{architecture.name} cannot be built with {_told(architecture)}: {reason}."
        ) from error


def _told(architecture: Architecture) -> str:
    return ", ".join(f"{k}={v}" for k, v in architecture.options.items()) or "its defaults"


def _check_size_hollow(architecture: Architecture, construct: Callable[[], nn.Module]) -> None:
    """Count the parameters before any memory is taken for them."""
    try:
        with _hollow():
            hollow = construct()
    except Exception:
        # Some constructors compute with their tensors, which meta tensors cannot; a wrong option fails for real below.
        return
    _check_size(architecture, hollow)


def _check_size(architecture: Architecture, module: nn.Module) -> None:
    size = sum(p.numel() * 4 for p in module.parameters())
    if size > MAX_BYTES:
        raise InvalidArchitecture(
            f"{architecture.name} with {_told(architecture)} has {size / 1024**3:.0f} GiB of weights; "
            f"at most {MAX_BYTES // 1024**3} GiB are taken."
        )


def build_hollow(architecture: Architecture, *, in_channels: int = 3) -> nn.Module:
    """The network to be filled with a complete state_dict: on meta, or on the CPU where it cannot be built there."""
    try:
        hollow = build(architecture, in_channels=in_channels, device="meta")
    except InvalidArchitecture:
        # Some constructors compute with their tensors, as RegNet's does with its widths.
        return build(architecture, in_channels=in_channels)
    return hollow if _can_be_hollow(hollow) else build(architecture, in_channels=in_channels)


def _can_be_hollow(module: nn.Module) -> bool:
    """Whether everything that the network computes with lies in its state_dict."""
    parts = list(module.modules())
    kept = not any(part._non_persistent_buffers_set for part in parts)
    return kept and not any(isinstance(value, Tensor) for part in parts for value in vars(part).values())


def width_of_logits(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """How many numbers the network answers with for one input of `input_shape` (C, H, W).

    Raises `InvalidArchitecture` where the network does not take such an input or answers with something else.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = module.training
    try:
        with torch.inference_mode():
            answer = module.eval()(torch.zeros(1, *input_shape, device=device))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        shape = "x".join(map(str, input_shape))
        raise InvalidArchitecture(
            f"The network does not take an input of {shape} (channels, height, width): {str(error).splitlines()[0]}"
        ) from error
    finally:
        module.train(training)
    if not isinstance(answer, Tensor) or answer.dim() != 2:
        raise InvalidArchitecture("The network does not answer with one row of logits for each image.")
    return int(answer.shape[1])
