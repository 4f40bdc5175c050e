"""What 2:4 zeros are worth on a GPU: torch's semi-structured kernels beside the dense ones, both in float16.

The kernels know matrices alone, so convolutions stay dense (Mishra et al. 2021, arXiv:2104.08378, for the pattern).
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from compressor.measure.counting import attention_in_the_open
from contract.value import Json

_WARM_UP, _RUNS = 10, 50


@dataclass(frozen=True)
class SemiStructured:
    """A network in float16 on a GPU, with dense and with semi-structured kernels."""

    #: p50 of a batch.
    dense_ms: float
    sparse_ms: float
    batch_size: int
    #: Weights that the sparse kernels take; the others are dense in both.
    weights: int
    #: Largest difference between the two's answers, over the largest answer.
    difference: float

    def told(self) -> dict[str, Json]:
        """As a step's details have it."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


def semi_structured(module: nn.Module, masks: Mapping[str, Tensor], x: Tensor) -> SemiStructured | None:
    """Time the network on a batch `x` of shape (N, C, H, W); none where the kernels take no weight of it, or refuse it.

    The network and the batch are on a CUDA device, and stay as they are.
    """
    dense, batch = copy.deepcopy(module).eval().half(), x.half()
    sparse = copy.deepcopy(dense)
    taken = sum(_replaced(sparse, name) for name, mask in masks.items() if is_two_of_four(mask))
    if not taken:
        return None
    with torch.inference_mode():
        expected = dense(batch)
        try:
            with attention_in_the_open():
                found = sparse(batch)
        except RuntimeError as error:
            if not is_refusal(error):
                raise
            return None
        # Turn by turn, so that both meet the same clock of the device.
        times = [_turn(dense, sparse, batch) for _ in range(_WARM_UP + _RUNS)][_WARM_UP:]
    return SemiStructured(
        dense_ms=median(turn[0] for turn in times),
        sparse_ms=median(turn[1] for turn in times),
        batch_size=len(x),
        weights=taken,
        difference=float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)),
    )


def is_two_of_four(mask: Tensor) -> bool:
    """Whether a matrix keeps two of every four neighbours in a row at most."""
    return mask.dim() == 2 and mask.shape[1] % 4 == 0 and bool((mask.view(len(mask), -1, 4).sum(2) <= 2).all())


def is_refusal(error: Exception) -> bool:
    """Whether kernels have said that they do not take something; a device that is full, or fails, has not."""
    return not isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)


def _replaced(module: nn.Module, name: str) -> bool:
    """Put a linear layer's compressed weight in the dense one's place; false where the kernels do not take it.

    What attention makes of a weight of its own, views of it and of turned inputs, the kernels do not know.
    """
    weight, (owner, _, own) = module.get_parameter(name), name.rpartition(".")
    if not isinstance(module.get_submodule(owner), nn.Linear):
        return False
    try:
        with warnings.catch_warnings():
            # That the class may still change: it does not leave this file.
            warnings.simplefilter("ignore")
            compressed = to_sparse_semi_structured(weight.detach().contiguous())
    except (RuntimeError, ValueError) as error:
        if not is_refusal(error):
            raise
        return False
    setattr(module.get_submodule(owner), own, nn.Parameter(compressed, requires_grad=False))
    return True


def _turn(dense: nn.Module, sparse: nn.Module, x: Tensor) -> tuple[float, float]:
    """Each as fast as it can be: attention's fused path, which knows no compressed weights, is for the dense one."""
    first = _timed(dense, x)
    with attention_in_the_open():
        return first, _timed(sparse, x)


def _timed(module: nn.Module, x: Tensor) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    module(x)
    end.record()
    end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds
