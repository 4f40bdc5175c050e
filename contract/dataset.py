"""A dataset: images in one file, with labels or without."""

from enum import StrEnum

from pydantic import Field

from contract.model import ContentState
from contract.value import Instant, Links, Metadata, Sha256, Value


class DatasetFormat(StrEnum):
    """The file formats in which data is taken."""

    #: A zip with one folder for each class and images in it; images that lie in no folder have no labels.
    IMAGE_FOLDER_ZIP = "image_folder_zip"
    #: Arrays `x` (uint8 NHWC, NHW, or float32 NCHW) and `y` (integers), without which the images have no labels.
    NPZ = "npz"


class DatasetCreation(Value):
    """What a client says of a dataset before it sends the file."""

    name: str = Field(default="", max_length=256)
    format: DatasetFormat = DatasetFormat.IMAGE_FOLDER_ZIP
    metadata: Metadata = Field(default_factory=dict)


class Dataset(Value):
    """A dataset as the service knows it."""

    id: str
    name: str
    format: DatasetFormat
    metadata: Metadata
    state: ContentState
    size_bytes: int | None
    sha256: Sha256 | None
    created_at: Instant
    links: Links = Field(default_factory=dict)
