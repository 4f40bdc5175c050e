"""Residual blocks that a network can do without, found by trying, and what each is worth."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.data.images import Images
from compressor.layers import weighted_modules
from compressor.measure.accuracy import answers
from compressor.measure.counting import evaluating
from compressor.measure.fidelity import divergence


def removable_blocks(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Names of the residual blocks whose removal leaves all shapes as they are, in the order in which they compute.

    Such a block stands in a chain, has two or more layers with weights, is used once, and gives out what it was given
    once its own parameters are zero: that is what makes it residual. Where one lies in another, the inner one counts.
    """
    chained = _chained(module)
    image = torch.rand(1, *input_shape, generator=torch.Generator().manual_seed(0))
    with _watching(chained) as watched, evaluating(module):
        module(image.to(next(module.parameters()).device))
    found = [name for name, given in watched.items() if len(given) == 1 and _is_residual(chained[name], given[0])]
    return tuple(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def _chained(module: nn.Module) -> dict[str, nn.Module]:
    """Modules of several layers that stand one behind the other."""
    chains = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Sequential | nn.ModuleList)]
    links = {f"{name}.{key}".removeprefix("."): link for name, part in chains for key, link in part.named_children()}
    return {name: link for name, link in links.items() if len(weighted_modules(link)) > 1}


@contextmanager
def _watching(parts: Mapping[str, nn.Module]) -> Iterator[Mapping[str, Sequence[Tensor | None]]]:
    """What each part is given, each time, in the order in which they begin; None for anything but one tensor."""
    given: dict[str, list[Tensor | None]] = {}

    def note(name: str, inputs: tuple[object, ...]) -> None:
        one = inputs[0] if len(inputs) == 1 else None
        given.setdefault(name, []).append(one if isinstance(one, Tensor) else None)

    handles = [
        part.register_forward_pre_hook(lambda _, inputs, name=name: note(name, inputs)) for name, part in parts.items()
    ]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _is_residual(block: nn.Module, given: Tensor | None) -> bool:
    if given is None:
        return False
    idle = copy.deepcopy(block).eval()
    for parameter in idle.parameters():
        parameter.zero_()
    # Positive, as behind the activation that often follows the sum.
    image = torch.rand(given.shape, generator=torch.Generator().manual_seed(0)).to(given.device)
    answer = idle(image.clone())
    return isinstance(answer, Tensor) and answer.shape == image.shape and torch.allclose(answer, image, atol=1e-6)


@contextmanager
def without(module: nn.Module, name: str) -> Iterator[None]:
    """The network as if the block did nothing."""
    parent, _, child = name.rpartition(".")
    chain, block = module.get_submodule(parent), module.get_submodule(name)
    setattr(chain, child, nn.Identity())
    try:
        yield
    finally:
        setattr(chain, child, block)


def by_magnitude(module: nn.Module, blocks: Sequence[str]) -> dict[str, float]:
    """The mean magnitude of the weights in each block's matrices and kernels."""
    return {name: _magnitude(module.get_submodule(name)) for name in blocks}


def _magnitude(block: nn.Module) -> float:
    weights = [parameter.detach().double().abs() for parameter in block.parameters() if parameter.dim() > 1]
    return float(sum(weight.sum() for weight in weights)) / sum(weight.numel() for weight in weights)


def by_output(module: nn.Module, blocks: Sequence[str], images: Images, *, device: torch.device) -> dict[str, float]:
    """One minus the cosine between what each block is given and gives out, an image's numbers being one vector.

    Men et al. 2024 (ShortGPT, arXiv:2403.03853, equation 1) take the mean over tokens; an image is a whole here.
    """
    angles = [_Angle(module.get_submodule(name)) for name in blocks]
    answers(module, images, device=device)
    return {name: angle.taken() for name, angle in zip(blocks, angles, strict=True)}


class _Angle:
    """Listens to one block until it is asked."""

    def __init__(self, block: nn.Module) -> None:
        self._given = torch.empty(0)
        self._cosines: list[Tensor] = []
        self._handles = [block.register_forward_pre_hook(self._before), block.register_forward_hook(self._after)]

    def _before(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # In float64 it is a copy, which a block that works in place does not change.
        self._given = inputs[0].flatten(1).double()

    def _after(self, _: nn.Module, __: object, answer: Tensor) -> None:
        self._cosines.append(F.cosine_similarity(self._given, answer.flatten(1).double(), dim=1).cpu())

    def taken(self) -> float:
        for handle in self._handles:
            handle.remove()
        return 1 - float(torch.cat(self._cosines).mean())


def by_fidelity(
    module: nn.Module, blocks: Sequence[str], images: Images, original: Tensor, *, device: torch.device
) -> dict[str, float]:
    """KL(original || without the block) of the answers (images, classes), for each block by itself, in nats."""
    found: dict[str, float] = {}
    for name in blocks:
        with without(module, name):
            found[name] = divergence(original, answers(module, images, device=device))
    return found
