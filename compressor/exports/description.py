"""What every deployed file says of itself, beside the network."""

import json

from compressor.candidate import Candidate

#: Of what stands in a file's metadata.
FORMAT_VERSION = "1"


def description(candidate: Candidate) -> dict[str, str]:
    """Preprocessing and, where they are known, the names of the classes, as JSON by name."""
    said = {
        "modelpress.format_version": FORMAT_VERSION,
        "modelpress.preprocessing": candidate.preprocessing.model_dump_json(),
    }
    return said if candidate.classes is None else said | {"modelpress.classes": json.dumps(candidate.classes)}
