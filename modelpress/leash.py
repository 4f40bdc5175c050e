"""`python -I -S leash.py PARENT COMMAND...`: become COMMAND, and end when PARENT does.

Run as a file and with the standard library alone, so that it costs a few milliseconds. The kernel ends the process
when the thread that started it ends, however that happens; Linux only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Turn into the command; raises `OSError` where it cannot be run."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError("the kernel takes no parent-death signal")
    # The parent may have gone before the kernel was told.
    if os.getppid() == parent:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
