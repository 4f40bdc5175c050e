"""Models and datasets."""

import pytest

from contract.dataset import DatasetCreation, DatasetFormat
from contract.failures import InUse, InvalidState, NotFound
from contract.job import JobState
from contract.model import Architecture, ContentState, ModelCreation, ModelFormat
from storage.idempotency import Reply
from storage.paging import Window
from storage.values import Answer, JobEnd, Ticket
from tests.integration.storage.house import PREPROCESSING, TENANT, House


def test_a_model_keeps_all_that_was_said_of_it(house: House) -> None:
    # Given a creation with everything in it
    creation = ModelCreation(
        name="Mein Netz ✓",
        architecture=Architecture(library="timm", name="resnet18", options={"num_classes": 10, "drop": None}),
        format=ModelFormat.PT,
        classes=("cat", "dog"),
        metadata={"team": "vision"},
    )

    # When it is added
    model = house.models.add(TENANT, creation, preprocessing=PREPROCESSING)

    # Then it is there just so, awaiting its content
    said = creation.model_dump(exclude={"preprocessing"})
    assert model.model_dump(include=set(said)) == said
    assert (model.preprocessing, model.state) == (PREPROCESSING, ContentState.AWAITING_CONTENT)
    assert (model.size_bytes, model.sha256) == (None, None)
    assert house.models.get(TENANT, model.id) == model
    assert house.models.await_content(TENANT, model.id) == model


def test_a_dataset_keeps_all_that_was_said_of_it(house: House) -> None:
    # Given a creation, when it is added, then it is there just so
    creation = DatasetCreation(name="digits", format=DatasetFormat.NPZ, metadata={"split": "train"})
    dataset = house.datasets.add(TENANT, creation)
    assert dataset.model_dump(include=set(DatasetCreation.model_fields)) == creation.model_dump()
    assert house.datasets.get(TENANT, dataset.id) == dataset


def test_content_is_given_once(house: House) -> None:
    # Given a dataset that awaits its content, when it gets some
    dataset = house.dataset(content=None)
    blob = house.keep(b"images")
    ready = house.datasets.set_content(TENANT, dataset.id, blob)
    assert (ready.state, ready.sha256, ready.size_bytes) == (ContentState.READY, blob.sha256, 6)

    # Then it takes no other
    with pytest.raises(InvalidState) as caught:
        house.datasets.set_content(TENANT, dataset.id, house.keep(b"others"))
    assert (caught.value.state, caught.value.allowed) == ("ready", ("awaiting_content",))
    with pytest.raises(InvalidState):
        house.datasets.await_content(TENANT, dataset.id, sha256="0" * 64)
    assert house.datasets.get(TENANT, dataset.id) == ready

    # And the same again does no harm
    assert house.datasets.await_content(TENANT, dataset.id, sha256=blob.sha256) == ready
    assert house.datasets.set_content(TENANT, dataset.id, house.keep(b"images")) == ready


def test_another_tenants_model_is_not_there(house: House) -> None:
    # Given a model of ours, when another tenant does anything with it, then it is not found
    model = house.model(content=None)
    for act in (house.models.get, house.models.await_content, house.models.delete):
        with pytest.raises(NotFound):
            act("theirs", model.id)
    with pytest.raises(NotFound):
        house.models.set_content("theirs", model.id, house.keep(b"weights", tenant="theirs"))
    assert house.models.list("theirs").items == ()
    assert house.models.get(TENANT, model.id) == model


def test_a_list_is_newest_first_and_in_pages(house: House) -> None:
    # Given three models, when they are listed two by two
    made = [house.model(content=None).id for _ in range(3)]
    first = house.models.list(TENANT, Window(limit=2))
    second = house.models.list(TENANT, Window(limit=2, after=first.next_cursor))

    # Then all come once
    assert [model.id for model in first.items + second.items] == made[::-1]
    assert (first.has_more, second.has_more) == (True, False)


def test_what_an_open_job_needs_is_not_deleted(house: House) -> None:
    # Given a job with a model, data and a teacher
    model, teacher, data = house.model(), house.model(b"teacher"), house.dataset()
    job = house.submit(model=model.id, data={"train": data.id}, steps=[{"method": "distill", "teacher": teacher.id}])

    # When they are deleted while it is queued and while it runs, then that is refused
    def refuse_all() -> None:
        for resources, resource_id in ((house.models, model.id), (house.models, teacher.id), (house.datasets, data.id)):
            with pytest.raises(InUse, match=job.id):
                resources.delete(TENANT, resource_id)

    refuse_all()
    claim = house.claim()
    refuse_all()

    # When it has ended, then they can go
    house.claims.finish(claim, JobEnd(state=JobState.FAILED))
    house.models.delete(TENANT, model.id)
    house.models.delete(TENANT, teacher.id)
    house.datasets.delete(TENANT, data.id)
    with pytest.raises(NotFound):
        house.models.get(TENANT, model.id)
    with pytest.raises(NotFound):
        house.jobs.retry(TENANT, job.id)


def test_the_answer_is_written_with_the_resource(house: House) -> None:
    # Given a request with a key, when its model is added
    ticket = house.idempotency.begin(TENANT, "key", fingerprint="a" * 64)
    assert isinstance(ticket, Ticket)
    creation = ModelCreation(architecture=Architecture(name="resnet18"))
    reply = Reply(ticket, lambda model: Answer(status=201, headers={}, body=model.id.encode()))
    model = house.models.add(TENANT, creation, preprocessing=PREPROCESSING, reply=reply)

    # Then the same request gets the same answer
    again = house.idempotency.begin(TENANT, "key", fingerprint="a" * 64)
    assert isinstance(again, Answer)
    assert again.body == model.id.encode()
