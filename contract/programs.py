"""Programs among what is uploaded for weights, told by the names in an archive; nothing of them is read."""

from collections.abc import Iterable
from pathlib import PurePosixPath

#: Parts that only programs have: TorchScript, torch.package, torch.export.
_PARTS = frozenset({"constants.pkl", "code", "extern_modules", "archive_format", "serialized_exported_program.json"})


def is_program(names: Iterable[str]) -> bool:
    """Whether an archive with files of these names holds more than a state_dict."""
    paths = [PurePosixPath(name) for name in names]
    # Every name but those of the oldest torch.export stands below a folder that bears the archive's name.
    parts = {part for path in paths for part in path.parts[1:] or path.parts}
    return bool(parts & _PARTS) or any(path.suffix == ".so" for path in paths)
