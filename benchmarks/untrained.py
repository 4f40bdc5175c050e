"""Networks with random weights, for what does not depend on what they have learned."""

from compressor.candidate import Candidate
from compressor.models.source import ModelSource, read_candidate
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.value import Json


def untrained(name: str, side: int, **options: Json) -> Candidate:
    """torchvision's network for images of so many pixels a side."""
    source = ModelSource(
        architecture=Architecture(name=name, options=options),
        format=ModelFormat.SAFETENSORS,
        preprocessing=Preprocessing(size=(side, side), mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    return read_candidate(source, None, 0)
