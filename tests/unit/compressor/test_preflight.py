"""What can be said against a job's steps is said before the first of them, and nothing else is."""

from compressor.candidate import Candidate
from compressor.materials import Materials
from compressor.preflight import check_steps
from contract.methods import Params
from contract.methods.distill import Distill, Scaled
from contract.methods.prune import PruneWeights
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
