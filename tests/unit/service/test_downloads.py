"""What a `Range` field asks for (RFC 9110, section 14.1.2)."""

import pytest

from service.downloads import NOWHERE, part_of


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 5)),
        ("bytes=2-", (2, 10)),
        ("bytes=2-99", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes = 1-1", (1, 2)),
    ],
)
def test_one_range_is_a_part(field: str, part: tuple[int, int]) -> None:
    assert part_of(field, 10) == part


@pytest.mark.parametrize("field", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_what_lies_behind_the_end_is_nowhere(field: str) -> None:
    assert part_of(field, 10) == NOWHERE


@pytest.mark.parametrize(
    "field",
    [
        "",
        "bytes=",
        "bytes=-",
        "bytes=4-2",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=a-b",
        "bytes=٣-٤",
        "bytes=0-" + "9" * 99,
    ],
)
def test_what_is_no_single_range_asks_for_everything(field: str) -> None:
    assert part_of(field, 10) is None


def test_an_empty_file_has_no_part() -> None:
    assert part_of("bytes=0-0", 0) == NOWHERE
