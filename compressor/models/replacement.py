"""Another architecture in a candidate's place."""

from compressor.candidate import Candidate
from compressor.models.architectures import build, width_of_logits
from contract.failures import ClassesMismatch
from contract.model import Architecture


def replacement(candidate: Candidate, architecture: Architecture, *, seed: int) -> Candidate:
    """A fresh network of this architecture that takes the candidate's inputs and tells its classes apart.

    Raises `InvalidArchitecture`, and `ClassesMismatch` where the architecture's options ask for other classes.
    """
    wanted = architecture.options.get("num_classes", candidate.num_classes)
    if wanted != candidate.num_classes:
        raise ClassesMismatch(f"The architecture asks for {wanted} classes, and the model has {candidate.num_classes}.")
    headed = architecture.model_copy(
        update={"options": dict(architecture.options) | {"num_classes": candidate.num_classes}}
    )
    module = build(headed, in_channels=candidate.input_shape[0], seed=seed).eval()
    width_of_logits(module, candidate.input_shape)
    return Candidate(
        module=module,
        architecture=headed,
        preprocessing=candidate.preprocessing,
        num_classes=candidate.num_classes,
        classes=candidate.classes,
    )
