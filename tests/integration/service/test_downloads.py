"""Stored bytes over HTTP: as a whole, in parts, or as the word that the client has them."""

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.service.bodies import digest_field, new_model, safetensors
from tests.integration.service.conftest import Api

CONTENT = safetensors(5000)


@pytest.fixture(scope="module")
def url(api: Api) -> Iterator[str]:
    """Where the content of an uploaded model is."""
    links = new_model(api.http)["links"]
    assert isinstance(links, dict)
    assert api.http.put(links["content"], content=CONTENT).status_code == 200
    return links["content"]


def test_a_file_comes_with_its_digest_and_its_name(http: httpx.Client, url: str) -> None:
    # Given stored bytes / When they are fetched
    answer = http.get(url)
    # Then they come as they were sent, with all that a client needs to check and to keep them
    assert answer.content == CONTENT
    assert answer.headers["repr-digest"] == digest_field(CONTENT)
    assert answer.headers["etag"].strip('"')
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_parts_make_up_the_whole(http: httpx.Client, url: str) -> None:
    # Given a client that fetches a thousand bytes at a time, and a last part by its length
    parts, size = [], len(CONTENT)
    for start in range(0, size - 500, 1000):
        end = min(start + 999, size - 501)
        answer = http.get(url, headers={"Range": f"bytes={start}-{end}"})
        # Then each part says where it stands
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes {start}-{end}/{size}"
        parts.append(answer.content)
    parts.append(http.get(url, headers={"Range": "bytes=-500"}).content)
    # And together they are the file
    assert b"".join(parts) == CONTENT


def test_a_part_behind_the_end_is_refused_with_the_size(http: httpx.Client, url: str) -> None:
    answer = http.get(url, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_who_has_the_bytes_gets_none(http: httpx.Client, url: str) -> None:
    # Given a client that has the file
    etag = http.get(url).headers["etag"]
    # When it asks whether they have changed
    answer = http.get(url, headers={"If-None-Match": f'"other", {etag}'})
    # Then it is told that they have not
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == etag


def test_a_part_of_other_bytes_is_never_sent(http: httpx.Client, url: str) -> None:
    # Given a client that has a part of another file / When it wants the rest
    whole = http.get(url, headers={"Range": "bytes=10-", "If-Range": '"another"'})
    refused = http.get(url, headers={"If-Match": '"another"'})
    part = http.get(url, headers={"Range": "bytes=10-19", "If-Range": http.get(url).headers["etag"]})
    # Then it gets the whole, or a refusal where it insists; and the rest where it is the same file
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed")
    assert (part.status_code, part.content) == (206, CONTENT[10:20])
