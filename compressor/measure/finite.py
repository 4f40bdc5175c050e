"""Whether a network's answers are numbers."""

from torch import Tensor

from contract.failures import UnfitModel


def check_finite(logits: Tensor) -> None:
    """Raise `UnfitModel` where some of the answers, of shape (inputs, classes), are NaN or infinite."""
    wrong = int((~logits.isfinite()).any(1).sum())
    if wrong:
        raise UnfitModel(f"The model answers {wrong} of {len(logits)} inputs with NaN or infinity.")
