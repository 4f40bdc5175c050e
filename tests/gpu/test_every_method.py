"""What is done on CUDA answers the same wherever it is read again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.measure.accuracy import answers
from compressor.method import method
from compressor.models import files
from compressor.models.architectures import build
from compressor.quantization.simulate import simulated
from contract.methods import METHODS, Params
from contract.methods.distill import Distill
from contract.methods.low_bit import QuantizeWeights
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeStatic
from contract.methods.train import FineTune
from tests.unit.compressor.small_jobs import NETWORK, images
from tests.unit.compressor.small_steps import candidate_of, context_of, params_of

pytestmark = pytest.mark.gpu

ONCE = {"epochs": 1, "batch_size": 16}
DEFAULTS = [params_of(name) for name in METHODS]
OTHERS: list[Params] = [
    *(PruneWeights(importance=one) for one in ("random", "gradient", "lamp", "wanda", "obs")),
    *(PruneWeights(schedule=one, training=ONCE) for one in ("iterative", "gradual")),
    PruneWeights(importance="obs", pattern="2:4"),
    PruneWeights(importance="obs", schedule="gradual", training=ONCE),
    *(
        PruneChannels(macs_ratio=0.6, importance=one)
        for one in ("l2", "bn_scale", "taylor", "fpgm", "lamp", "hessian", "fisher", "obs", "activation", "random")
    ),
    PruneChannels(macs_ratio=0.6, rounds=2, samples=32, reconstruct_samples=48, scope="global", importance="obs"),
    *(QuantizeWeights(bits=bits) for bits in (1, 2, 3, 4, 6, 8)),
    *(QuantizeWeights(bits=4, scheme=one) for one in ("power_of_two", "codebook")),
    QuantizeWeights(bits=3, rounding="gptq"),
    QuantizeWeights(target_bits=4.0),
    QuantizeWeights(bits=2, training=ONCE),
    *(QuantizeStatic(calibrator=one) for one in ("minmax", "percentile", "entropy", "mse")),
    QuantizeStatic(bits=4, activation_bits=4, rounding="reconstruction"),
    QuantizeStatic(equalize=True, rounding="adaptive"),
    *(Distill(objective=one, **ONCE) for one in ("mse", "dkd", "dist")),
    *(
        Distill(objective=[{"objective": "kl"}, {"objective": one}], **ONCE)
        for one in ("fitnet", "attention", "similarity", "rkd", "crd")
    ),
    Distill(held_out=0.25, average=0.9, mix="mixup", **ONCE),
    *(FineTune(augment=one, **ONCE) for one in ("crop_flip", "resized_crop_flip")),
]


def _named(params: Params) -> str:
    return params.model_dump_json(exclude_defaults=True)


@pytest.fixture(autouse=True)
def _exact() -> None:
    """Products in float32 throughout, as on a CPU."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def _answers(candidate: Candidate, device: torch.device) -> Tensor:
    return answers(simulated(candidate).eval(), images(32, seed=4), device=device)


@pytest.mark.parametrize("params", [*DEFAULTS, *OTHERS], ids=_named)
def test_what_is_made_on_the_device_is_what_is_written(cuda: torch.device, params: Params, tmp_path: Path) -> None:
    # Given a small network
    original = candidate_of(build(NETWORK, seed=0).eval())
    # When the method does its step on the device
    made = method(params.method)(original, params, context_of(original, device=cuda))
    where = {tensor.device.type for tensor in made.module.state_dict().values()}
    there = _answers(made, cuda)
    # Then all of the network lies there, and its files answer so on the CPU
    assert where == {"cuda"}
    files.write(made, tmp_path)
    assert torch.allclose(_answers(files.read(tmp_path), torch.device("cpu")), there, atol=2e-3, rtol=1e-3)
    assert there.isfinite().all()
