"""What can be said against a job's steps is said before the first of them, and nothing else is."""

from dataclasses import replace

import pytest

from compressor.candidate import Candidate
from compressor.materials import Materials
from compressor.preflight import check_steps
from contract.failures import ClassesMismatch, Failure, NoLayerMatches, UnfitModel
from contract.methods import Params
from contract.methods.cast import Cast
from contract.methods.distill import Distill, Scaled
from contract.methods.factorize import Factorize
from contract.methods.lighten import Lighten
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.small_jobs import images, trained_candidate

DATA = images(8, seed=0)


def checked(*steps: Params, **others: Candidate) -> None:
    """Check the steps of a job on the small network, beside which there are these models."""
    given = {"original": trained_candidate()} | others
    check_steps(
        steps,
        Materials(
            original=given["original"],
            train=DATA,
            calibration=DATA,
            evaluation=None,
            others={name: other.copied for name, other in given.items()},
        ),
    )


def test_a_smaller_copy_of_what_a_step_will_leave_can_be_a_student() -> None:
    # Given a step whose model teaches a copy of half its width / When the steps are checked / Then nothing is wrong
    checked(
        PruneWeights(amount=0.5),
        Distill(teacher="step_0", student=Scaled(width=0.5)),
        PruneWeights(amount=0.5, include=("layer4.*",)),
    )


FACTOR = PruneWeights(amount=0.5, include=("layer3.0.conv2.1",))
HINT = Distill.model_validate(
    {"objective": [{"objective": "fitnet", "layers": [["layer3.0.conv2.1", "layer3.0.conv2"]]}], "epochs": 1}
)


@pytest.mark.parametrize("step", [FACTOR, HINT], ids=lambda step: step.method)
@pytest.mark.parametrize("before", [Factorize(), Lighten(separable=True)], ids=lambda step: step.method)
def test_a_layer_that_a_step_may_add_is_looked_for_when_the_next_step_begins(before: Params, step: Params) -> None:
    # Given a step that puts several layers in the place of one / When a later one names the second of them
    # Then nothing is said against it, and neither is behind a step in between
    checked(before, step)
    checked(before, PruneChannels(ratio=0.5), step)


@pytest.mark.parametrize("step", [FACTOR, HINT], ids=lambda step: step.method)
@pytest.mark.parametrize(
    "before",
    [
        (PruneChannels(ratio=0.5),),
        (Lighten(),),
        (Factorize(), Distill(student=Scaled(width=0.5), epochs=1)),
    ],
    ids=lambda steps: steps[-1].method,
)
def test_a_layer_that_no_step_adds_is_missed_at_once(before: tuple[Params, ...], step: Params) -> None:
    # Given steps that leave every layer its name, or put a network of known names in the model's place
    # When a later one names a layer that is not there / Then it fails before the first step
    with pytest.raises(NoLayerMatches) as caught:
        checked(*before, step)
    assert caught.value.step_index == len(before)


OTHER = "mdl_" + "0" * 26
NAMED = replace(trained_candidate(), classes=("a", "b", "c", "x"))


@pytest.mark.parametrize(
    ("step", "failure", "sentence", "pointer"),
    [
        ({"teacher": OTHER}, ClassesMismatch, "does not know d", "/teacher"),
        ({"teacher": ["original", OTHER]}, ClassesMismatch, "does not know d", "/teacher/1"),
        ({"teacher": "mdl_" + "1" * 26}, UnfitModel, "There is no model mdl_1", ""),
        (
            {"objective": [{"objective": "rkd", "layers": [["layer4", "stage4"]]}]},
            NoLayerMatches,
            "The teacher has no layer stage4",
            "/objective/0/layers/0/1",
        ),
    ],
    ids=["classes", "classes of the second", "no teacher", "layer"],
)
def test_a_teacher_that_cannot_teach_is_refused_before_the_first_step(
    step: dict[str, object], failure: type[Failure], sentence: str, pointer: str
) -> None:
    # Given a network that is pruned, and then learns from one that cannot teach it / When the steps are checked
    student = replace(trained_candidate(), classes=("a", "b", "c", "d"))
    with pytest.raises(failure, match=sentence) as caught:
        checked(PruneWeights(amount=0.5), Distill.model_validate(step), original=student, **{OTHER: NAMED})
    # Then it is said before either runs, and where the teacher or its layer is named
    assert [fault.pointer for fault in caught.value.errors] == [f"/steps/1{pointer}"]


def test_a_teacher_whose_layers_a_step_may_have_added_is_asked_when_it_teaches() -> None:
    # Given a teacher that a step has factorized, and a student of known layers / When one of its factors is named
    step = {"teacher": "step_0", "student": {"width": 0.5}}
    layers = [["layer3.0.conv2", "layer3.0.conv2.1"]]
    hint = Distill.model_validate(step | {"objective": [{"objective": "fitnet", "layers": layers}]})
    # Then it may be there by then; of the model as the job got it, it is not
    checked(Factorize(), hint)
    with pytest.raises(NoLayerMatches, match="The teacher has no layer"):
        checked(Factorize(), hint.model_copy(update={"teacher": "original"}))


@pytest.mark.parametrize("field", ["include", "exclude"])
@pytest.mark.parametrize("method", [PruneWeights, QuantizeStatic, Cast])
def test_every_pattern_means_a_layer(method: type[Params], field: str) -> None:
    # Given patterns of which one is right and one has a slip in it
    step = method.model_validate({"amount": 0.5} if method is PruneWeights else {})
    step = step.model_copy(update={field: ("layer1", "layr2")})
    # When the job begins / Then it says which one, where it stands, and what it may have meant
    with pytest.raises(NoLayerMatches, match=r"layr2.*layer2") as refused:
        checked(step)
    assert refused.value.errors[0].pointer == f"/steps/0/{field}"


def test_what_is_left_out_need_not_have_weights() -> None:
    # Given a step that leaves out a normalization, which it would not have touched / When the job begins / Then it may
    checked(PruneWeights(amount=0.5, exclude=("layer1.0.bn1", "*.bn2")))
