"""Where attempts left off."""

from sqlalchemy import func, select

from contract.job import JobState
from storage.schema import checkpoints
from storage.values import Checkpoint, JobEnd
from tests.integration.storage.house import House, card


def _count(house: House) -> int:
    with house.database.read() as connection:
        return connection.execute(select(func.count()).select_from(checkpoints)).scalar_one()


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
