"""The processes of one stack, among those of others that the same test run keeps alive."""

import psutil

from modelpress.up import Stack


def parts_of(stack: Stack) -> list[psutil.Process]:
    """Broker, API and workers, as far as they live."""
    return [child for child in psutil.Process().children() if _serves(child, str(stack.settings.data_dir))]


def running(stack: Stack, command: str) -> list[psutil.Process]:
    """The stack's living processes, at any depth, whose command line has this in it."""
    family = [process for part in parts_of(stack) for process in (part, *_below(part))]
    return [process for process in family if command in _command(process)]


def alive(process: psutil.Process) -> bool:
    """Whether it still does anything; what nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _serves(part: psutil.Process, folder: str) -> bool:
    # The broker has the folder on its command line and nothing of ours in its environment.
    try:
        return folder in _command(part) or part.environ().get("MODELPRESS_DATA_DIR") == folder
    except psutil.Error:
        return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
