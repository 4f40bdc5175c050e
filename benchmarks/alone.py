"""Things that are measured in a process of their own."""

import subprocess
import sys


def last_word(module: str, *arguments: str) -> str:
    """The last line that `python -m module arguments` prints; raises `CalledProcessError`."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
