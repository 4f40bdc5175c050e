"""A candidate as `model.safetensors` and `model.json`, which `modelpress.load_model` reads."""

from pathlib import Path
from tempfile import TemporaryDirectory

from compressor.candidate import Candidate
from compressor.exports import float16
from compressor.models import files
from contract.artifact import OutputPrecision


def write(
    candidate: Candidate, folder: Path, stem: str, *, precision: OutputPrecision = OutputPrecision.AS_PLANNED
) -> dict[str, Path]:
    """Write both files, which are read under the names that they would have in a folder of their own.

    In float16 they hold halves, which are computed with in float32. Raises ExportFailed.
    """
    if precision is OutputPrecision.FLOAT16:
        candidate = float16.stored(candidate)
    with TemporaryDirectory(dir=folder) as name:
        files.write(candidate, Path(name))
        written = [Path(name, files.WEIGHTS), Path(name, files.DOCUMENT)]
        return {path.name: path.rename(folder / f"{stem}{path.suffix}") for path in written}
