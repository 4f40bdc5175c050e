"""What can be said against a job's steps is said before the first of them, and nothing else is."""

import pytest

from compressor.candidate import Candidate
from compressor.materials import Materials
from compressor.preflight import check_steps
from contract.failures import NoLayerMatches
from contract.methods import Params
from contract.methods.distill import Distill, Scaled
from contract.methods.factorize import Factorize
from contract.methods.lighten import Lighten
from contract.methods.prune import PruneChannels, PruneWeights
from tests.unit.compressor.small_jobs import images, trained_candidate

DATA = images(8, seed=0)


def checked(*steps: Params, **others: Candidate) -> None:
    """Check the steps of a job on the small network, beside which there are these models."""
    given = {"original": trained_candidate()} | others
    check_steps(
        steps,
        Materials(
            original=trained_candidate(),
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
