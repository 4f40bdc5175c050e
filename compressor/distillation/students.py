"""Who learns: the model as it is, a fresh architecture, another model, or a smaller copy of the teacher."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.models.architectures import width_of_logits
from compressor.models.edits import Edit, Remove, apply_edits, edits_between
from compressor.models.replacement import replacement, with_classes
from compressor.models.stems import edits_for_small_images
from compressor.pruning.blocks import removable_blocks
from compressor.pruning.channels import Pruning, Target, narrow
from contract.failures import ClassesMismatch, UnfitModel
from contract.methods.distill import Distill, Scaled
from contract.methods.prune import PruneChannels
from contract.model import Architecture, Preprocessing

_POINTER = "/student"


def student_of(candidate: Candidate, params: Distill, context: Context) -> Candidate:
    """The student, for the caller to train; it takes the candidate's inputs and tells its classes apart.

    Raises what `replacement` raises; `ClassesMismatch` where another model has other classes, or another order of them,
    and `InvalidArchitecture` where it does not take such inputs; `UnfitModel` and `PruningFailed` where the teacher
    cannot be made smaller.
    """
    match params.student:
        case Architecture() as architecture:
            return replacement(candidate, architecture, seed=context.seed)
        case Scaled() as scale:
            return _scaled(candidate, context.other(params.teachers[0]), scale, seed=context.seed)
        case "current":
            return candidate
        case name:
            return _another(candidate, context.other(name), context)


def _another(candidate: Candidate, other: Candidate, context: Context) -> Candidate:
    """The other model, in the candidate's place: the images are read once, as the candidate takes them."""
    width = width_of_logits(other.module, candidate.input_shape)
    if width != candidate.num_classes:
        raise ClassesMismatch(
            f"The student tells {width} classes apart, and the model {candidate.num_classes}.", pointer=_POINTER
        )
    if candidate.classes and other.classes and candidate.classes != other.classes:
        raise ClassesMismatch(
            "The student's classes have other names than the model's, or stand in another order.", pointer=_POINTER
        )
    if other.preprocessing != candidate.preprocessing:
        context.notice("other_preprocessing", _images_told(other.preprocessing, candidate.preprocessing))
    other.module.requires_grad_(True)
    return replace(other, preprocessing=candidate.preprocessing, classes=candidate.classes)


def _images_told(own: Preprocessing, model: Preprocessing) -> str:
    differ = [name for name in Preprocessing.model_fields if getattr(own, name) != getattr(model, name)]
    return (
        "The student came with another preprocessing. From this step on it takes images as the job's model does: "
        f"{', '.join(f'{name} {getattr(model, name)} instead of {getattr(own, name)}' for name in differ)}."
    )


def _scaled(candidate: Candidate, teacher: Candidate, scale: Scaled, *, seed: int) -> Candidate:
    """The teacher's architecture with fresh weights, a part of its residual blocks and of its channels."""
    fresh = _with_stem_of(
        teacher, replacement(candidate, with_classes(teacher.architecture, candidate.num_classes), seed=seed)
    )
    shallow = _without(fresh, _superfluous(removable_blocks(fresh.module, fresh.input_shape), scale.depth))
    return _narrowed(shallow, scale.width, seed=seed) if scale.width < 1 else shallow


def _with_stem_of(teacher: Candidate, fresh: Candidate) -> Candidate:
    """The fresh network, changed in place where the teacher's first strides were fitted to small images."""
    wanted = edits_for_small_images(fresh.module, fresh.input_shape)
    return _edited(fresh, [edit for edit in wanted if edit in teacher.edits])


def _superfluous(blocks: Sequence[str], depth: float) -> list[str]:
    """Those that go, as evenly spread as can be; raises `UnfitModel` where depth asks for some and none can go."""
    count = len(blocks) - round(depth * len(blocks))
    if depth < 1 and not count:
        raise UnfitModel(
            f"The teacher has {len(blocks)} residual blocks that it can do without, of which depth {depth:g} keeps all."
        )
    return [blocks[(2 * number + 1) * len(blocks) // (2 * count)] for number in range(count)]


def _without(fresh: Candidate, blocks: Sequence[str]) -> Candidate:
    return _edited(fresh, [Remove(module=name) for name in blocks])


def _edited(fresh: Candidate, edits: Sequence[Edit]) -> Candidate:
    """The candidate with these edits made, in place."""
    apply_edits(fresh.module, edits)
    return replace(fresh, edits=(*fresh.edits, *edits))


def _narrowed(fresh: Candidate, width: float, *, seed: int) -> Candidate:
    pruning = Pruning(
        params=PruneChannels(ratio=1 - width),
        example=torch.zeros(1, *fresh.input_shape),
        target=Target(None, 1 - width),
        seed=seed,
    )
    narrowed = narrow(fresh.module, pruning).module
    return replace(fresh, module=narrowed, edits=(*fresh.edits, *edits_between(fresh.module, narrowed)))
