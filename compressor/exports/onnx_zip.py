"""Networks above 2 GiB: an ONNX graph and, beside it, the weights that its protobuf message cannot hold."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

#: Names within the zip.
GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, path: Path) -> None:
    """Put graph and weights from `folder` into a zip, uncompressed; equal files give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in (GRAPH, WEIGHTS):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 2**20)


def graph(path: Path) -> bytes:
    """The ONNX message itself, without the weights that a zip has beside it."""
    if path.suffix != ".zip":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(GRAPH)


@contextmanager
def graph_file(path: Path) -> Iterator[Path]:
    """The `.onnx` file to give to a runtime: `path` itself, or what is in the zip while the context is open."""
    if path.suffix != ".zip":
        yield path
        return
    with TemporaryDirectory(dir=path.parent) as folder:
        with zipfile.ZipFile(path) as archive:
            for name in (GRAPH, WEIGHTS):
                archive.extract(name, folder)
        yield Path(folder, GRAPH)
