"""A model as it was uploaded becomes the candidate that a job starts from."""

from dataclasses import dataclass
from pathlib import Path

from compressor.candidate import Candidate
from compressor.models.architectures import build, width_of_logits
from compressor.models.weights import load_into, read_weights
from contract.failures import ClassesMismatch
from contract.model import Architecture, ModelFormat, Preprocessing


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What the client said of a model."""

    architecture: Architecture
    format: ModelFormat
    preprocessing: Preprocessing
    #: In the order of the outputs, where the client named them.
    classes: tuple[str, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self.preprocessing.input_shape


def read_candidate(source: ModelSource, path: Path | None, seed: int) -> Candidate:
    """The architecture with the weights of the file, or with seeded ones where there is no file; in eval mode.

    Raises what `build`, `read_weights` and `load_into` raise, and `ClassesMismatch` where the names of the classes
    are not as many as the outputs.
    """
    weights = None if path is None else read_weights(path, source.format)
    module = build(source.architecture, in_channels=source.input_shape[0], seed=seed)
    if weights is not None:
        load_into(module, weights)
    width = width_of_logits(module, source.input_shape)
    if source.classes is not None and len(source.classes) != width:
        raise ClassesMismatch(f"The model names {len(source.classes)} classes and has {width} outputs.")
    return Candidate(
        module=module.eval(),
        architecture=source.architecture,
        preprocessing=source.preprocessing,
        num_classes=width,
        classes=source.classes,
    )
