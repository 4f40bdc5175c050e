"""A real worker whose runners do as their jobs tell them; settings from the environment."""

import sys
from pathlib import Path

from contract.settings import Settings
from worker.app import serve

if __name__ == "__main__":
    scripted = (sys.executable, "-I", str(Path(__file__).with_name("scripted_runner.py")))
    sys.exit(serve(Settings(), runner=scripted))
