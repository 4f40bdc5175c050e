"""What a training recorded becomes one curve each."""

from compressor.report.step_plots import losses_by_epoch, losses_of, losses_on_labels, pictures
from contract.methods.distill import Distill
from contract.report import Measurement, StepReport
from contract.value import Json

ALONE = "train_loss_without_teacher"


def report(**details: Json) -> StepReport:
    measurement = Measurement(parameters=1, nonzero_parameters=1, macs=1, size_bytes=4)
    return StepReport(measurement=measurement, seconds=1.0, details=details)


def test_every_loss_of_a_training_is_a_curve() -> None:
    # Given a step that trained for three epochs / When its losses are drawn
    (axes,) = losses_by_epoch(losses_of(report(train_loss=[3.0, 2.0, 1.0], held_out_loss=[3.5, 2.5, 2.4]))).axes
    # Then there is a curve for each, over the epochs
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {"training": [3.0, 2.0, 1.0], "held out": [3.5, 2.5, 2.4]}
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]


def test_with_a_teacher_and_without_the_same_losses_are_compared() -> None:
    # Given a student that learnt from labels and a teacher, and another one from labels alone
    own = report(
        train_loss=[9.0, 8.0], held_out_loss=[3.5, 2.5], terms={"kl": [7.0, 6.0], "labels": [2.0, 1.5]},
        **{ALONE: [4.0, 3.0]},
    )  # fmt: skip
    # When the two are compared / Then it is by what labels tell, and not by all that the teacher says
    assert losses_on_labels(own) == {
        "training": [2.0, 1.5], "held out": [3.5, 2.5], "training, without teacher": [4.0, 3.0],
    }  # fmt: skip
    assert losses_of(own) == {"training": [9.0, 8.0], "held out": [3.5, 2.5]}
    # And a student that has no part of the labels is compared by what was held out
    untold = report(train_loss=[9.0, 8.0], terms={"kl": [7.0, 6.0]}, **{ALONE: [4.0, 3.0]})
    assert losses_on_labels(untold) == {"training, without teacher": [4.0, 3.0]}
    # And where nobody was trained without a teacher there is nothing to compare
    assert losses_on_labels(report(train_loss=[9.0, 8.0], terms={"labels": [2.0, 1.5]})) == {}


def test_one_epoch_is_no_curve() -> None:
    # Given steps of one epoch and of two / When their pictures are asked for / Then the second has one
    captions = [
        [caption for caption, _ in pictures([(Distill(), report(train_loss=loss))])] for loss in ([1.0], [2.0, 1.0])
    ]
    assert captions == [[], ["Losses in distill, epoch by epoch"]]
