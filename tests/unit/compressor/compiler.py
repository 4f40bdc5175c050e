"""Tests of what torch's inductor compiles."""

import pytest

from worker.card import compiler_is_there

needs_compiler = pytest.mark.skipif(not compiler_is_there(), reason="needs g++ and the headers of Python")
