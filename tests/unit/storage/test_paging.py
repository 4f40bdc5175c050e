"""Pages and their cursors."""

from dataclasses import dataclass

import pytest

from contract.failures import InvalidRequest
from storage.paging import Page, Window


@dataclass(frozen=True)
class Thing:
    """Something with an id."""

    id: str


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    # Given a limit that is too small or too large, when a window is made of it, then that is refused by name
    with pytest.raises(InvalidRequest) as caught:
        Window(limit=limit)
    assert [fault.pointer for fault in caught.value.errors] == ["/limit"]


def test_a_page_says_where_the_next_one_starts() -> None:
    # Given three things where two were asked for, when they are put on a page
    page = Page.of([Thing("c"), Thing("b"), Thing("a")], Window(limit=2))

    # Then two are on it, and the cursor hides the last
    assert page.items == (Thing("c"), Thing("b"))
    assert page.has_more
    assert page.next_cursor != "b"


def test_the_last_page_leads_nowhere() -> None:
    # Given as many things as were asked for, when they are put on a page, then there is no next one
    page = Page.of([Thing("b"), Thing("a")], Window(limit=2))
    assert not page.has_more
    assert page.next_cursor is None
