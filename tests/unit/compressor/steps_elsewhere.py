"""Does every method's step, and a whole job, on a device that is not the CPU, and prints what came of each as JSON.

A process of its own: `python -m tests.unit.compressor.steps_elsewhere`.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from compressor.candidate import Candidate
from compressor.compress import compress
from compressor.method import method
from compressor.models.architectures import build
from contract.methods import METHODS, Params
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeDynamic
from contract.methods.train import FineTune
from tests.unit.compressor.elsewhere import NAME, elsewhere
from tests.unit.compressor.small_jobs import NETWORK, NotingDesk, order, spec, write_weights
from tests.unit.compressor.small_steps import candidate_of, context_of, params_of

STEPS: Mapping[str, Params] = {
    **{name: params_of(name) for name in METHODS},
    "prune_weights by obs": PruneWeights(
        importance="obs", schedule="gradual", training={"epochs": 1, "average": 0.9, "augment": "resized_crop_flip"}
    ),
    "fine_tune on shifted images": FineTune(epochs=1, augment="crop_flip"),
    "prune_channels by obs": PruneChannels(ratio=0.3, importance="obs", samples=16, reconstruct=False),
}
JOB = (PruneWeights(amount=0.5), QuantizeDynamic())


def _step(params: Params) -> str:
    original = candidate_of(build(NETWORK, seed=0).eval())
    with elsewhere() as device:
        made = method(params.method)(original, params, context_of(original, device=device))
        return ", ".join({str(tensor.device) for tensor in made.module.state_dict().values()})


def _job() -> str:
    with TemporaryDirectory() as name:
        weights = write_weights(build(NETWORK, seed=0), Path(name, "weights.safetensors"))
        job = order(Path(name, "job"), weights, spec(*JOB, roles=(), outputs=["torch_export"]))
        with elsewhere():
            outcome = compress(replace(job, device=NAME), NotingDesk(Path(name)))
    assert outcome.result.report.compressed.latency is not None
    return outcome.result.report.environment.device


def _met() -> str:
    """Raises where tensors of two devices meet and should not, or the other way round."""
    with elsewhere() as device:
        x, number, places = torch.ones(3, device=device), torch.tensor(2.0), torch.tensor([0, 1])
        for meet in (lambda: x + torch.ones(3), lambda: torch.ones(3)[x.long()], lambda: x @ torch.ones(3)):
            try:
                meet()
            except RuntimeError:
                continue
            raise AssertionError("tensors of two devices have met")
        assert ((x * number).cpu() + torch.ones(3)).tolist() == [3, 3, 3]
        return str(x[places].device)


def _pruned(importance: str, device: torch.device) -> Candidate:
    params = PruneWeights.model_validate({"amount": 0.6, "importance": importance, "scope": "global"})
    original = candidate_of(build(NETWORK, seed=0).eval())
    return method(params.method)(original, params, context_of(original, device=device))


def _cut() -> str:
    """Raises where other weights are cut there than on the CPU."""
    importances = ("l1", "random", "lamp")
    here = [_pruned(importance, torch.device("cpu")).masks for importance in importances]
    with elsewhere() as device:
        there = [_pruned(importance, device) for importance in importances]
        for masks, made in zip(here, there, strict=True):
            assert all(torch.equal(kept, made.masks[name]) for name, kept in masks.items())
        return ", ".join({str(tensor.device) for made in there for tensor in made.module.state_dict().values()})


ALL: Mapping[str, Callable[[], str]] = {
    "tensors": _met,
    "zeros": _cut,
    **{name: partial(_step, params) for name, params in STEPS.items()},
    "job": _job,
}


def _outcome(work: Callable[[], str]) -> Mapping[str, str]:
    try:
        return {"device": work()}
    except Exception:
        return {"device": "", "failure": traceback.format_exc()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):
        found = {name: _outcome(work) for name, work in ALL.items()}
    sys.stdout.write(json.dumps(found))
