"""Tests of what is written for ExecuTorch, which an extra of its own installs."""

from importlib.util import find_spec

import pytest

needs_executorch = pytest.mark.skipif(find_spec("executorch") is None, reason="needs the extra executorch")
