"""Tests of what torch's inductor compiles."""

import pytest

from worker.card import inductor_is_there

needs_inductor = pytest.mark.skipif(
    not inductor_is_there(), reason="needs an x86 processor, g++ and the headers of Python"
)
