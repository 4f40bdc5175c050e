"""What a database that refuses means to us."""

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from contract.failures import StorageFull, every_failure, failure_named
from storage.faults import NOT_NOW, failures_named


def test_a_full_database_is_asked_again_and_is_full_storage_to_a_client() -> None:
    # Given a driver that finds no room
    refusal = sqlite3.OperationalError("database or disk is full")
    refusal.sqlite_errorname = "SQLITE_FULL"
    # When it refuses / Then that may pass
    with pytest.raises(StorageFull) as caught, failures_named():
        raise OperationalError("INSERT", {}, refusal)
    assert isinstance(caught.value, NOT_NOW)
    assert caught.value.problem() == StorageFull().problem()
    # And there is one kind of failure for each code that a client reads
    codes = [kind.code for kind in every_failure()]
    assert len(codes) == len(set(codes))
    assert failure_named("storage_full") is StorageFull
