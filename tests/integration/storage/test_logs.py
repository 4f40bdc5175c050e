"""The runner's log."""

import pytest

from contract.failures import NotFound
from storage.logs import Logs
from storage.values import LogPart
from tests.integration.storage.house import TENANT, House


def test_a_log_is_read_from_any_byte_on(house: House) -> None:
    # Given a log that was written in three pieces
    claim = house.running()
    for piece in (b"one\n", b"two\n", b"three\n"):
        assert house.logs.append(claim, piece)
    whole = b"one\ntwo\nthree\n"

    # When it is read from each byte on, in parts of each size, then just those bytes come
    for offset in range(len(whole) + 3):
        for limit in (1, 5, 100):
            part = house.logs.read(TENANT, claim.job_id, offset=offset, limit=limit)
            expected = whole[offset : offset + limit]
            assert part == LogPart(expected, next_offset=min(offset, len(whole)) + len(expected))


def test_a_log_goes_on_in_the_next_attempt(house: House) -> None:
    # Given a log of an attempt that was handed back
    claim = house.running()
    house.logs.append(claim, b"first\n")
    house.claims.release(claim)

    # When the next attempt writes, then it comes after
    house.logs.append(house.claim(), b"second\n")
    assert house.logs.read(TENANT, claim.job_id).content == b"first\nsecond\n"


def test_a_log_that_grows_too_long_is_cut_and_says_so_once(house: House) -> None:
    # Given logs that may have ten bytes
    claim = house.running()
    logs = Logs(house.database, cap_bytes=10)

    # When a runner writes more, in any pieces
    for piece in (b"12345678", b"90abc", b"", b"def"):
        assert logs.append(claim, piece)

    # Then ten bytes are kept, and one line that tells it
    assert logs.read(TENANT, claim.job_id).content == b"1234567890\n[the log is cut after 10 bytes]\n"


def test_a_log_that_is_just_full_is_not_cut(house: House) -> None:
    # Given logs that may have ten bytes, when just ten come, then nothing is said
    claim = house.running()
    logs = Logs(house.database, cap_bytes=10)
    logs.append(claim, b"1234567890")
    assert logs.read(TENANT, claim.job_id).content == b"1234567890"


def test_an_unknown_job_has_no_log(house: House) -> None:
    # Given nothing, when the log of a job is read, then it is not found
    with pytest.raises(NotFound):
        house.logs.read(TENANT, "job_" + "0" * 26)
