"""`python -m worker`: run jobs until told to stop."""

import sys

from contract.settings import Settings
from worker.app import serve

if __name__ == "__main__":
    sys.exit(serve(Settings()))
