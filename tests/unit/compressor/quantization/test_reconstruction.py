"""Few bits without labels: what blocks learn of their own float outputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.exports.onnx import export
from compressor.measure.fidelity import divergence
from compressor.methods import quantize_aware, quantize_static
from compressor.models import files
from compressor.quantization.simulate import simulated
from contract.methods.aware import QuantizeAware
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor import small_jobs
from tests.unit.compressor.networks import answers, gated, images_for, inputs_for, onnx_answers, residual
from tests.unit.compressor.quantization.steps import Told, with_images

FEW: dict[str, Any] = {"bits": 4, "activation_bits": 4}
RECONSTRUCTION: dict[str, Any] = FEW | {"rounding": "reconstruction", "iterations": 40}


def quantized(candidate: Candidate, context: Context | None = None, **params: object) -> Candidate:
    return quantize_static.apply(candidate, QuantizeStatic.model_validate(params), context or with_images(candidate))


def test_blocks_answer_nearer_to_the_original_than_nearest_codes() -> None:
    # Given a trained network and images without labels
    candidate, new = small_jobs.trained_candidate(), small_jobs.images(120, seed=1)
    calibration = small_jobs.images(64, seed=2)
    context = Context(calibration=replace(calibration, labels=torch.zeros_like(calibration.labels)))
    x = new.normalized(new.pixels)
    original = answers(candidate.module, x)
    # When it is quantized to four bits with the nearest codes, and as its blocks have learned
    nearest, learned = (
        divergence(original, answers(simulated(quantized(small_jobs.trained_candidate(), context, **how)), x))
        for how in (FEW, RECONSTRUCTION)
    )
    # Then it answers nearer to the original, on images that it has not seen
    assert learned < 0.8 * nearest


@pytest.mark.parametrize("network", [residual, gated], ids=["sums", "gates"])
def test_what_was_learned_is_what_is_delivered(network: Any, tmp_path: Path) -> None:
    # Given a network / When its blocks learn, twice with the same seed
    told, data = Told(), with_images(network(), 64)
    learning = RECONSTRUCTION | {"iterations": 100}
    made, again = (quantized(network(), told.context(data), **learning) for _ in range(2))
    # Then codes, scales and steps are the same both times, and other ones than the nearest
    tensors = made.plan.tensors()
    assert all(torch.equal(tensor, again.plan.tensors()[name]) for name, tensor in tensors.items())
    assert made.plan.activations == again.plan.activations
    nearest = quantized(network(), data, **FEW)
    assert any(not torch.equal(tensor, nearest.plan.tensors()[name]) for name, tensor in tensors.items())
    assert made.plan.activations != nearest.plan.activations
    # And each is one code below or above the weight, of no more than four bits, with the scale it had
    for name, weight in made.plan.integers.items():
        scale = weight.scale.view(-1, *[1] * (weight.codes.dim() - 1))
        steps = network().module.get_parameter(name).detach() / scale
        assert torch.equal(weight.scale, nearest.plan.integers[name].scale)
        low, high = -(2 ** (weight.bits - 1)), 2 ** (weight.bits - 1) - 1
        assert bool(((weight.codes - steps.clamp(low, high)).abs() < 1.001).all())
    assert min(told.records["bits"].values()) == 4  # type: ignore[union-attr]
    assert "low_bit_is_storage_only" in told.notices
    # And the file computes in integers what the plan means
    x = inputs_for(made)
    planned, found = answers(simulated(made), x), onnx_answers(export(made, tmp_path / "model.onnx"), x)
    assert float((planned - found).abs().max() / planned.abs().max()) < 1e-3


def test_written_and_rebuilt_it_answers_the_same(tmp_path: Path) -> None:
    # Given a network whose blocks have learned / When it is written and rebuilt
    context = Context(calibration=small_jobs.images(32, seed=2))
    made = quantized(small_jobs.trained_candidate(), context, **(RECONSTRUCTION | {"iterations": 2}))
    files.write(made, tmp_path)
    # Then it answers the same, and its file has four bits a weight, but for the ends
    x = inputs_for(made, 8)
    assert torch.equal(answers(files.load_model(tmp_path), x), answers(simulated(made), x))
    assert (tmp_path / files.WEIGHTS).stat().st_size < 0.6 * sum(p.numel() for p in made.module.parameters())


def test_zeros_stay_and_what_was_learned_before_too() -> None:
    # Given a network with a mask, of which all but one layer was trained for integers
    candidate = residual()
    mask = torch.rand_like(candidate.module.depthwise[0].weight) < 0.5
    candidate = replace(candidate, masks={"depthwise.0.weight": mask})
    candidate.apply_masks()
    data = images_for(candidate, 48)
    aware = QuantizeAware(exclude=("depthwise",), epochs=1, batch_size=16, distill_from_original=False)
    trained = quantize_aware.apply(candidate, aware, Context(train=data, calibration=data))
    learned, weights = dict(trained.plan.activations), dict(trained.plan.integers)
    # When the rest learns by reconstruction
    made = quantized(trained, include=("depthwise",), **RECONSTRUCTION)
    # Then what is masked has code 0, and what was learned is kept
    assert not made.plan.integers["depthwise.0.weight"].codes[~mask].any()
    assert learned.items() <= made.plan.activations.items()
    assert all(made.plan.integers[name] is weight for name, weight in weights.items())
