"""What every method promises, tested once for all of them.

A method joins by its two files: nothing here names one.
"""

import pkgutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import compressor.methods
from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.measure.counting import count_macs, count_nonzero, count_parameters, layer_reports, zeros
from compressor.measure.probe import Probe
from compressor.measure.state import measured, step_report
from compressor.method import method, preflight
from compressor.models import files
from compressor.models.architectures import build
from compressor.quantization.simulate import simulated
from contract.failures import Failure
from contract.methods import METHODS, Stage
from contract.report import NoticeCode
from contract.value import Json
from tests.unit.compressor.small_jobs import NETWORK, images
from tests.unit.compressor.small_steps import candidate_of, context_of, params_of

every_method = pytest.mark.parametrize("name", METHODS)


def applied(name: str) -> tuple[Candidate, dict[str, Json]]:
    """A fresh small network after one step of the method, and what that has recorded."""
    original, notes = candidate_of(build(NETWORK, seed=0).eval()), dict[str, Json]()
    return method(name)(original, params_of(name), context_of(original, notes)), notes


@cache
def applied_once(name: str) -> tuple[Candidate, dict[str, Json]]:
    """The same, done once for all tests that only look, with torch's own generator in a state that is known."""
    torch.manual_seed(1)
    return applied(name)


def tensors_of(candidate: Candidate) -> dict[str, Tensor]:
    return dict(candidate.module.state_dict()) | dict(candidate.masks) | dict(candidate.plan.tensors())


def logits_of(candidate: Candidate) -> Tensor:
    module = simulated(candidate).eval()
    with torch.no_grad():
        logits: Tensor = module(next(images(8, seed=4).batches(8)).x)
    return logits


def test_every_params_class_has_a_method_file_and_the_other_way_round() -> None:
    # Given the files in compressor/methods
    found = {module.name for module in pkgutil.iter_modules(compressor.methods.__path__)}
    # Then they are the methods of the contract
    assert found == set(METHODS)


@every_method
def test_the_defaults_are_valid_and_every_field_is_described(name: str) -> None:
    # Given a method's params with nothing but what has no default
    params = params_of(name)
    # Then they name the method, survive JSON, and tell a reader what each field means
    assert params.method == name
    assert METHODS[name].model_validate_json(params.model_dump_json()) == params
    assert METHODS[name].__doc__
    schema = METHODS[name].model_json_schema()["properties"]
    assert {field for field, told in schema.items() if "description" not in told} <= {"method"}


@every_method
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    # Given the same network twice, with torch's own generator in different states
    first = tensors_of(applied_once(name)[0])
    torch.manual_seed(2)
    second = tensors_of(applied(name)[0])
    # Then the method makes the same of both
    assert first.keys() == second.keys()
    assert all(torch.equal(first[tensor], second[tensor]) for tensor in first)


@every_method
def test_the_output_takes_and_gives_what_the_input_did(name: str) -> None:
    # Given a network that takes images of 32 pixels and tells four classes apart
    before = candidate_of(build(NETWORK, seed=0).eval())
    # When the method has done its step
    after, _ = applied_once(name)
    # Then the new one does the same, and says so
    assert logits_of(after).shape == (8, 4)
    assert logits_of(after).isfinite().all()
    assert (after.input_shape, after.num_classes, after.classes) == (before.input_shape, 4, before.classes)
    # And tensors have other names or shapes only where that is told
    shapes = [{key: t.shape for key, t in one.module.state_dict().items()} for one in (before, after)]
    kind = METHODS[name]
    assert shapes[0] == shapes[1] or kind.reshapes or kind.stage is Stage.ARCHITECTURE
    # And what is masked is zero
    for parameter, mask in after.masks.items():
        assert not after.module.get_parameter(parameter)[~mask].any()


@every_method
def test_it_survives_being_written_and_rebuilt(name: str, tmp_path: Path) -> None:
    # Given what the method has made
    made, _ = applied_once(name)
    # When it is written, and rebuilt from the files alone
    files.write(made, tmp_path)
    rebuilt = files.read(tmp_path)
    # Then it answers the same, bit for bit, and masks, plan and edits are those that were written
    assert torch.equal(logits_of(rebuilt), logits_of(made))
    assert rebuilt.masks.keys() == made.masks.keys()
    assert all(torch.equal(rebuilt.masks[key], made.masks[key]) for key in made.masks)
    assert rebuilt.plan.document() == made.plan.document()
    assert rebuilt.edits == made.edits
    # And what a user loads answers so too
    with torch.no_grad():
        loaded = files.load_model(tmp_path)(next(images(8, seed=4).batches(8)).x)
    assert torch.equal(loaded, logits_of(made))


class _Unfit(nn.Module):
    """A network of one layer without weights, in which there is nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).repeat(1, 2)[:, :4] * self.scale


@every_method
def test_a_model_that_does_not_fit_is_refused_by_name(name: str) -> None:
    # Given a network without a layer that anything could be done to
    unfit = candidate_of(_Unfit())
    check, params = preflight(name), params_of(name)
    # When the method is asked for
    outcome: Candidate | Failure
    try:
        if check is not None:
            check(unfit, params)
        outcome = method(name)(unfit, params, context_of(unfit))
    except Failure as failure:
        outcome = failure
    # Then it fails with a code and a sentence that a client can read, or needs no layers and its work holds
    if isinstance(outcome, Failure):
        assert outcome.code
        assert outcome.detail.endswith((".", "?"))
    else:
        assert logits_of(outcome).isfinite().all()


@every_method
def test_patterns_that_match_nothing_are_refused_before_the_work(name: str) -> None:
    # Given params that take patterns, with one that is no layer's name
    params = params_of(name)
    if "include" not in type(params).model_fields:
        return
    candidate, check = candidate_of(build(NETWORK, seed=0).eval()), preflight(name)
    # When the method is asked whether it can
    assert check is not None, "a method with patterns must check them before step 0"
    # Then it says that no layer matches
    with pytest.raises(Failure) as caught:
        check(candidate, params.model_copy(update={"include": ("no.such.layer",)}))
    assert caught.value.code == "no_layer_matches"


@every_method
def test_preflight_changes_nothing(name: str) -> None:
    # Given a network
    candidate, check = candidate_of(build(NETWORK, seed=0).eval()), preflight(name)
    before = {key: tensor.clone() for key, tensor in candidate.module.state_dict().items()}
    # When the method is asked whether it can
    if check is not None:
        check(candidate, params_of(name))
    # Then the network is what it was
    after = candidate.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(part.training for part in candidate.module.modules())


@every_method
def test_the_report_is_true_when_counted_again(name: str, tmp_path: Path) -> None:
    # Given a step's report
    (made, notes), data = applied_once(name), images(40, seed=5)
    files.write(made, tmp_path)
    probe = Probe(images=data, labels=data.labels)
    original = measured(
        candidate_of(build(NETWORK, seed=0).eval()), tmp_path / files.WEIGHTS, probe, torch.device("cpu")
    )
    state = measured(made, tmp_path / files.WEIGHTS, probe, torch.device("cpu"))
    report = step_report(state, original, original, probe, seconds=1.0).model_copy(update={"details": notes})
    # When everything is counted again from the files that were written
    again = files.read(tmp_path)
    right = sum(int((logits.argmax(1) == y).sum()) for logits, y in _answers(again, data))
    # Then the report is right, and can be told as JSON
    found = report.measurement
    assert found.parameters == count_parameters(again.module)
    assert found.nonzero_parameters == count_nonzero(again.module)
    assert found.macs == count_macs(again.module, again.input_shape).total
    assert found.size_bytes == (tmp_path / files.WEIGHTS).stat().st_size
    assert found.accuracy is not None
    assert (found.accuracy.value, found.accuracy.n) == (right / 40, 40)
    assert report.zeros == zeros(again.module)
    layers = layer_reports(again.module, count_macs(again.module, again.input_shape), again.plan)
    assert tuple(layer.model_copy(update={"before": None}) for layer in report.layers) == layers
    was = {layer.name: layer for layer in original.layers}
    for layer in report.layers:
        assert (layer.before is None) == (layer.name not in was)
        if layer.before is not None:
            assert layer.before.shape == was[layer.name].shape
            assert layer.before.parameters == was[layer.name].parameters
    assert type(report).model_validate_json(report.model_dump_json()) == report


def _answers(candidate: Candidate, data: Images) -> list[tuple[Tensor, Tensor]]:
    module = simulated(candidate).eval()
    with torch.no_grad():
        return [(module(batch.x), batch.y) for batch in data.batches(8)]


@every_method
def test_warnings_have_known_codes_and_progress_stays_in_bounds(name: str) -> None:
    # Given a method that is listened to
    original = candidate_of(build(NETWORK, seed=0).eval())
    fractions: list[float] = []
    codes: list[str] = []
    context = replace(
        context_of(original),
        progress=lambda fraction, phase: fractions.append(fraction) if phase else pytest.fail("a phase has a name"),
        notice=lambda code, detail: codes.append(code) if detail else pytest.fail("a warning has a sentence"),
    )
    # When it works
    method(name)(original, params_of(name), context)
    # Then what it says can be passed on
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert fractions == sorted(fractions)
    assert set(codes) <= set(get_args(NoticeCode))
