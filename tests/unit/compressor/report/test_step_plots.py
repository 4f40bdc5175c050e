"""What a training recorded becomes one curve each."""

from compressor.report.step_plots import curves_of, losses_by_epoch, pictures
from contract.methods.distill import Distill
from contract.report import Measurement, StepReport
from contract.value import Json

ALONE = "train_loss_without_teacher"


def report(**details: Json) -> StepReport:
    measurement = Measurement(parameters=1, nonzero_parameters=1, macs=1, size_bytes=4)
    return StepReport(measurement=measurement, seconds=1.0, details=details)


def test_every_loss_of_a_training_is_a_curve() -> None:
    # Given a step that trained a student for three epochs, and another one without its teacher
    found = report(train_loss=[3.0, 2.0, 1.0], held_out_loss=[3.5, 2.5, 2.4], **{ALONE: [4.0, 3.0, 2.0]})
    # When its losses are drawn
    (axes,) = losses_by_epoch(curves_of(found)).axes
    # Then there is a curve for each, over the epochs
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {
        "training": [3.0, 2.0, 1.0], "held out": [3.5, 2.5, 2.4], "training without teacher": [4.0, 3.0, 2.0],
    }  # fmt: skip
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]


def test_one_epoch_is_no_curve() -> None:
    # Given steps of one epoch and of two / When their pictures are asked for / Then the second has one
    captions = [
        [caption for caption, _ in pictures([(Distill(), report(train_loss=loss))])] for loss in ([1.0], [2.0, 1.0])
    ]
    assert captions == [[], ["Losses in distill, epoch by epoch"]]
