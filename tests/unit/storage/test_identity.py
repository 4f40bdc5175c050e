"""Ids."""

import re
from concurrent.futures import ThreadPoolExecutor

from storage.identity import Kind, new_id


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    # Given many ids made at once, when they are sorted, then nothing moves and none comes twice
    made = [new_id(Kind.JOB) for _ in range(5000)]
    assert made == sorted(set(made))


def test_threads_make_no_id_twice() -> None:
    # Given four threads, when they make ids, then all differ
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: new_id(Kind.MODEL), range(4000)))
    assert len(set(made)) == 4000


def test_an_id_has_the_form_that_specs_ask_for() -> None:
    # Given ids of models and datasets, when a spec's pattern looks at them, then it takes them
    assert re.fullmatch(r"mdl_[0-9A-HJKMNP-TV-Z]{26}", new_id(Kind.MODEL))
    assert re.fullmatch(r"dat_[0-9A-HJKMNP-TV-Z]{26}", new_id(Kind.DATASET))
