"""Lines come out whole, however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire import Lines, LineTooLong


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 7))
def test_lines_survive_any_cutting(lines: list[bytes], size: int) -> None:
    # Given a stream of lines, cut into pieces of some size
    stream = b"".join(line + b"\n" for line in lines)
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    # When the pieces arrive / Then the lines do
    heard = Lines(max_bytes=100)
    assert [line for piece in cut for line in heard.feed(piece)] == lines


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    # Given a line that is as long as it may be
    heard = Lines(max_bytes=1000)
    for _ in range(10):
        assert list(heard.feed(b"x" * 100)) == []
    # When it goes on / Then it is refused
    with pytest.raises(LineTooLong):
        list(heard.feed(b"x"))


def test_the_limit_counts_for_each_line_anew() -> None:
    # Given lines that are each just short enough / When they arrive at once / Then all are taken
    assert len(list(Lines(max_bytes=10).feed(b"0123456789\n" * 5))) == 5
