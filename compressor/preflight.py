"""What can be said against a job's steps and outputs before the first step runs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from compressor.blame import blaming
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.distillation.students import student_of
from compressor.layers import check_each
from compressor.lightening.classifier import keeping
from compressor.materials import Materials
from compressor.method import method, preflight
from compressor.methods.distill import check_teachers
from compressor.methods.merge import check_ingredients
from contract.artifact import Quantizer
from contract.failures import MissingData, NoLayerMatches
from contract.methods import Params, Recovery, Role, Stage
from contract.methods.distill import Distill
from contract.methods.merge import Merge
from contract.spec import Output


def check_steps(steps: tuple[Params, ...], materials: Materials) -> None:
    """Ask every method whether it can do its step; raises the first failure, which names the step.

    The models of a soup are compared with the network tensor by tensor, unless a step before it changes these.
    A step behind one that puts another network in the model's place is asked about that network, still untrained; one
    behind a step that keeps some classes about a network with these. The same stand in for the models that steps leave,
    and teach. Which layers there are behind a step that adds some, only a step itself can say when it begins.
    """
    candidate, others = materials.original, dict(materials.others)
    #: The models whose layers are not known yet.
    vague: set[str] = set()
    added = False
    for index, step in enumerate(steps):
        context = Context(others=others)
        with blaming(index):
            _check_labels(step, materials)
            with _sparing(added):
                _check(candidate, step)
            if isinstance(step, Merge) and not any(earlier.reshapes for earlier in steps[:index]):
                check_ingredients(candidate, step, context)
            candidate = _replaced(candidate, step, context)
            added = step.adds_layers or (added and not _is_taken_by_another(step))
            if isinstance(step, Distill):
                with _sparing(added or not vague.isdisjoint(step.teachers)):
                    check_teachers(candidate, step, context)
        others[f"step_{index}"] = candidate.copied
        if added:
            vague.add(f"step_{index}")


def check_outputs(outputs: Sequence[Output], materials: Materials) -> None:
    """Raise `MissingData` where a file can be proven by its accuracy alone, and the images have no labels."""
    for index, output in enumerate(outputs):
        images = materials.evaluation
        if output.options.quantizer is not Quantizer.PLAN and images is not None and not images.labelled:
            raise MissingData(
                f"What {output.options.quantizer} makes can be proven by its accuracy alone, and the images of "
                "data.evaluation have no labels.",
                pointer=f"/outputs/{index}/options/quantizer",
            )


def _check(candidate: Candidate, step: Params) -> None:
    # One that means nothing is a slip: what it should leave out would be worked on, without a word.
    names = [name for name, _ in candidate.module.named_modules()]
    for field in ("include", "exclude"):
        check_each(getattr(step, field, ()), names, pointer=f"/{field}")
    check = preflight(step.method)
    if check is not None:
        check(candidate, step)


def _sparing(added: bool) -> AbstractContextManager[None]:
    """Within this block a layer may be missing where steps before add some."""
    return suppress(NoLayerMatches) if added else nullcontext()


def _check_labels(step: Params, materials: Materials) -> None:
    """Raise `MissingData` where the step reads labels of images that have none."""
    images = {Role.TRAIN: materials.train, Role.CALIBRATION: materials.calibration}
    for role in sorted(step.labelled):
        found = images[role]
        if found is not None and not found.labelled:
            way = _without_labels(step) if role is Role.TRAIN else ""
            raise MissingData(f"{step.method} reads labels, and the images of data.{role} have none.{way}")


def _without_labels(step: Params) -> str:
    """How the step's training could do without labels."""
    match step.recipe:
        case Distill(alpha=alpha) if alpha < 1:
            return " With alpha 1 it learns from the teacher alone."
        case Recovery():
            return " With distill_from_original and alpha 1 it learns from the original alone."
        case _:
            return ""


def _is_taken_by_another(step: Params) -> bool:
    """Whether the step puts another network in the model's place."""
    return step.stage is Stage.ARCHITECTURE or (isinstance(step, Distill) and step.student != "current")


def _replaced(candidate: Candidate, step: Params, context: Context) -> Candidate:
    if step.stage is Stage.ARCHITECTURE:
        return method(step.method)(candidate.copied(), step, context)
    if isinstance(step, Distill) and step.student != "current":
        return student_of(candidate.copied(), step, context)
    if step.kept_classes is not None:
        return keeping(candidate.copied(), step.kept_classes)
    return candidate
