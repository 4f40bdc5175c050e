"""How lists are asked for."""

from typing import Annotated

from fastapi import Depends, Query

from storage.paging import MAX_LIMIT, Window


def window(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")] = 20,
    after: Annotated[str | None, Query(max_length=256, description="The `next_cursor` of the page before.")] = None,
) -> Window:
    """The page that is asked for."""
    return Window(limit, after)


InWindow = Annotated[Window, Depends(window)]
