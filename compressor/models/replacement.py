"""Another architecture in a candidate's place."""

from torch import nn

from compressor.candidate import Candidate
from compressor.models.architectures import build, width_of_logits
from compressor.models.edits import Edit, apply_edits
from compressor.models.stems import edits_for_small_images
from contract.architecture import Stem
from contract.failures import ClassesMismatch
from contract.model import Architecture


def replacement(candidate: Candidate, architecture: Architecture, *, seed: int, stem: Stem = "keep") -> Candidate:
    """A fresh network of this architecture that takes the candidate's inputs and tells its classes apart.

    Raises `InvalidArchitecture`, and `ClassesMismatch` where the architecture's options ask for other classes.
    """
    wanted = architecture.options.get("num_classes", candidate.num_classes)
    if wanted != candidate.num_classes:
        raise ClassesMismatch(f"The architecture asks for {wanted} classes, and the model has {candidate.num_classes}.")
    headed = with_classes(architecture, candidate.num_classes)
    module = build(headed, in_channels=candidate.input_shape[0], seed=seed).eval()
    width_of_logits(module, candidate.input_shape)
    return Candidate(
        module=module,
        architecture=headed,
        preprocessing=candidate.preprocessing,
        num_classes=candidate.num_classes,
        classes=candidate.classes,
        edits=adapted(module, candidate.input_shape, stem),
    )


def with_classes(architecture: Architecture, num_classes: int) -> Architecture:
    """The architecture with a head for so many classes."""
    return architecture.model_copy(update={"options": dict(architecture.options) | {"num_classes": num_classes}})


def adapted(module: nn.Module, input_shape: tuple[int, int, int], stem: Stem) -> tuple[Edit, ...]:
    """Fit the network's stem to its images in place; what was done to it."""
    edits = edits_for_small_images(module, input_shape) if stem == "auto" else ()
    apply_edits(module, edits)
    return edits
