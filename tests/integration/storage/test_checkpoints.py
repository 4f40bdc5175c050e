"""Where attempts left off."""

import pytest
from sqlalchemy import Table, func, select

from contract.failures import ContentGone, Unavailable
from contract.job import JobState
from storage.schema import blobs, checkpoints
from storage.values import Blob, Checkpoint, Claim, JobEnd
from tests.integration.storage.house import TENANT, House, card


def _count(house: House, table: Table = checkpoints) -> int:
    with house.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _leave(house: House, claim: Claim, content: bytes) -> Blob:
    blob = house.keep(content)
    assert house.checkpoints.keep(claim, blob, code_version="1.0", position={})
    return blob


def _read(house: House, blob: Blob) -> bytes:
    return b"".join(house.blobs.read(TENANT, blob.sha256))


def test_the_next_attempt_goes_on_from_the_newest_checkpoint(house: House) -> None:
    # Given an attempt that left two checkpoints and was handed back
    claim = house.running()
    first, second = house.keep(b"epoch 1"), house.keep(b"epoch 2")
    assert house.checkpoints.keep(claim, first, code_version="1.0", position={"epoch": 1})
    assert house.checkpoints.keep(claim, second, code_version="1.0", position={"epoch": 2})
    house.claims.release(claim)

    # When the next one starts, then it has the second, and the first is not kept
    again = house.claim(version="1.0")
    assert again.resume == Checkpoint(sha256=second.sha256, size_bytes=7, position={"epoch": 2})
    assert _count(house) == 1


def test_another_version_does_not_go_on_from_it(house: House) -> None:
    # Given a checkpoint of one version of the code
    claim = house.running()
    house.checkpoints.keep(claim, house.keep(b"state"), code_version="1.0", position={})
    house.claims.release(claim)

    # When a worker of another version starts the job, then it starts anew
    assert house.claim(version="1.1").resume is None


def test_the_end_of_a_job_drops_its_checkpoint(house: House) -> None:
    # Given a job with a checkpoint, when it ends, then nothing refers to the state any more
    claim = house.running()
    house.checkpoints.keep(claim, house.keep(b"state"), code_version="1.0", position={})
    house.claims.finish(claim, JobEnd(state=JobState.FAILED))
    assert _count(house) == 0


def test_a_lost_attempt_leaves_its_checkpoint_to_the_next(house: House) -> None:
    # Given an attempt with a checkpoint whose worker is lost
    claim = house.running()
    house.checkpoints.keep(claim, house.keep(b"state"), code_version="1.0", position={"step": 0})
    house.pass_time(house.terms.lease_seconds + 1)
    house.upkeep.reap()
    house.pass_time(house.terms.retry_backoff_seconds)

    # When the next one starts, then it has it
    again = house.claims.claim(card())
    assert again is not None
    assert again.resume is not None
    assert again.resume.position == {"step": 0}


def test_checkpoints_do_not_pile_up(house: House) -> None:
    # Given a job that leaves a checkpoint every half minute, and a keeper that comes every minute
    claim = house.running()
    for epoch in range(10):
        newest = _leave(house, claim, f"epoch {epoch}".encode())
        house.pass_time(30)
        if epoch % 2:
            house.blobs.garbage()

        # Then there are never more than the newest and those that the keeper has not seen
        assert _count(house, blobs) <= 2
    assert _read(house, newest) == b"epoch 9"

    # When the job ends, then nothing is left
    house.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED))
    house.blobs.garbage()
    assert _count(house, blobs) == 0
    with pytest.raises(ContentGone):
        house.blobs.read(TENANT, newest.sha256)


def test_a_dropped_checkpoint_that_a_model_refers_to_stays(house: House) -> None:
    # Given a checkpoint of the same bytes as a model
    house.model(b"state")
    claim = house.running()
    blob = _leave(house, claim, b"state")

    # When the checkpoint is dropped, then the bytes stay
    _leave(house, claim, b"next")
    assert house.blobs.garbage() == 0
    assert _read(house, blob) == b"state"


def test_readers_of_a_model_have_their_grace_after_a_checkpoint_of_the_same_bytes(house: House) -> None:
    # Given a model of the same bytes as a checkpoint that was dropped
    claim, model = house.running(), house.model(b"state")
    blob = _leave(house, claim, b"state")
    _leave(house, claim, b"next")
    house.pass_time(1801)

    # When the model is deleted at once, then whoever reads its bytes has as long as ever
    house.models.delete(TENANT, model.id)
    assert house.blobs.garbage() == 0
    house.pass_time(599)
    assert house.blobs.garbage() == 0
    assert _read(house, blob) == b"state"


def test_two_jobs_with_the_same_checkpoint_do_not_lose_it_to_each_other(house: House) -> None:
    # Given two jobs that have left the same state
    claims = [house.running(), house.running()]
    for claim in claims:
        blob = _leave(house, claim, b"state")

    # When the first ends, then the second still has it
    house.claims.finish(claims[0], JobEnd(state=JobState.SUCCEEDED))
    assert house.blobs.garbage() == 0
    house.claims.release(claims[1])
    assert house.claim().resume == Checkpoint(sha256=blob.sha256, size_bytes=5, position={})
    assert _read(house, blob) == b"state"


def test_the_same_checkpoint_left_twice_stays(house: House) -> None:
    # Given a job whose state has not changed between two checkpoints, when the keeper comes, then it is there
    claim = house.running()
    _leave(house, claim, b"state")
    blob = _leave(house, claim, b"state")
    assert house.blobs.garbage() == 0
    assert _read(house, blob) == b"state"


def test_a_dropped_checkpoint_whose_bytes_have_come_again_stays(house: House) -> None:
    # Given a client that has brought the same bytes as a checkpoint, for a model
    claim, model = house.running(), house.model(content=None)
    blob = _leave(house, claim, b"state")
    house.keep(b"state")

    # When the checkpoint is dropped before the model refers to them, then they are still there for it
    house.claims.finish(claim, JobEnd(state=JobState.FAILED))
    assert house.blobs.garbage() == 0
    house.models.set_content(TENANT, model.id, blob)
    assert _read(house, blob) == b"state"


def test_a_checkpoint_whose_bytes_are_gone_is_not_kept(house: House) -> None:
    # Given a checkpoint, and bytes that were collected before a newer one could refer to them
    claim = house.running()
    newest, late = _leave(house, claim, b"epoch 1"), house.keep(b"epoch 2")
    for _ in range(2):
        house.pass_time(1801)
        house.blobs.garbage()

    # When the newer one comes, then it is told, and the older one stays
    with pytest.raises(Unavailable):
        house.checkpoints.keep(claim, late, code_version="1.0", position={})
    house.claims.release(claim)
    resume = house.claim().resume
    assert resume is not None
    assert resume.sha256 == newest.sha256
    assert _read(house, newest) == b"epoch 1"
