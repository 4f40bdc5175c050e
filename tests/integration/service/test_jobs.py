"""Jobs over HTTP: accepted durably, refused with pointers, followed, cancelled, repeated."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from contract.artifact import OutputFormat
from contract.job import JobState
from contract.worker import WorkerCard
from storage.values import JobEnd
from storage.workers import Workers
from tests.deadline import until
from tests.integration.service.bodies import ARCHITECTURE, UNTRAINED, new_model, ready_dataset, safetensors, zipped
from tests.integration.service.conftest import Api

SPEC: dict[str, object] = {"model": UNTRAINED, "steps": [{"method": "prune_channels"}], "outputs": ["onnx"]}


def card(**said: object) -> WorkerCard:
    raw = {
        "id": "w1", "host": "h", "version": "0", "slots": 1, "cores": 2, "memory_bytes": 1, "instruction_set": "avx2",
        "devices": ["cpu"], "runtimes": {}, "outputs": [*OutputFormat],
    }  # fmt: skip
    return WorkerCard.model_validate(raw | said)


def finish_all(api: Api) -> None:
    while (claim := api.claims.claim(card())) is not None:
        api.claims.finish(claim, JobEnd(state=JobState.SUCCEEDED))


def test_a_job_is_accepted_although_the_broker_is_away(http: httpx.Client) -> None:
    # Given a broker that does not answer / When a job is posted
    assert http.get("/readyz").json()["broker"] is False
    answer = http.post("/v1/jobs", json=SPEC)
    # Then it is accepted, with every default resolved, and says why it waits
    job = answer.json()
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == job["links"]["self"]
    assert "retry-after" in answer.headers
    assert job["spec"]["steps"][0] == {
        "method": "prune_channels", "ratio": 0.5, "macs_ratio": None, "parameters_ratio": None,
        "latency_ratio": None, "threshold": None, "importance": "l2",
        "scope": "layer", "compare": "mean", "ratio_by_layer": {}, "round_to": 8, "rounds": 1, "training": None,
        "samples": 256, "reconstruct": True, "reconstruct_samples": None, "recalibrate": True, "include": ["*"],
        "exclude": [],
    }  # fmt: skip
    assert (job["state"], job["done"], job["state_reason"]) == ("queued", False, "no_worker")


@pytest.mark.parametrize(
    ("wrong", "code", "pointer"),
    [
        ({"steps": [{"method": "prune_chanels"}]}, "unknown_method", "/steps/0/method"),
        ({"steps": [{}]}, "unknown_method", "/steps/0/method"),
        ({"steps": [{"method": "prune_channels", "ratio": 1.5}]}, "invalid_params", "/steps/0/ratio"),
        ({"steps": [{"method": "prune_channels", "ratoi": 0.5}]}, "invalid_params", "/steps/0/ratoi"),
        ({"steps": [{"method": "prune_weights", "amount": 0.5, "count": 3}]}, "invalid_params", "/steps/0"),
        ({"steps": [{"method": "quantize_static"}]}, "missing_data", "/steps/0"),
        ({"steps": [{"method": "quantize_dynamic"}, {"method": "prune_weights"}]}, "wrong_order", "/steps/1"),
        ({"steps": [{"method": "quantize_dynamic"}, {"method": "quantize_dynamic"}]}, "already_quantized", "/steps/1"),
        (
            {"steps": [{"method": "quantize_dynamic"}], "outputs": ["onnx", "openvino"]},
            "invalid_spec",
            "/outputs/1",
        ),
        (
            {"steps": [{"method": "prune_weights"}, {"method": "replace_architecture", "architecture": ARCHITECTURE}]},
            "wrong_order",
            "/steps/1",
        ),
        (
            {"steps": [{"method": "replace_architecture", "architecture": {"name": "mobilnet_v2"}}]},
            "unknown_architecture",
            "/steps/0/architecture/name",
        ),
        ({"steps": [{"method": "replace_architecture"}]}, "invalid_params", "/steps/0"),
        (
            {"steps": [{"method": "replace_architecture", "budget": {"max_macs": 0}}]},
            "invalid_params",
            "/steps/0/budget/max_macs",
        ),
        (
            {"steps": [{"method": "distill", "objective": [{"objective": "klx"}]}]},
            "invalid_params",
            "/steps/0/objective/0/objective",
        ),
        (
            {"steps": [{"method": "distill", "objective": [{"weight": 1}]}]},
            "invalid_params",
            "/steps/0/objective/0/objective",
        ),
        ({"outputs": ["tflite"]}, "invalid_spec", "/outputs/0"),
        ({"outputs": []}, "invalid_spec", "/outputs"),
        ({"body": {}}, "invalid_spec", "/body"),
        ({"constraints": [{"metric": "latency", "kind": "max_drop", "value": 1}]}, "invalid_spec", "/constraints/0"),
        ({"seed": -1}, "invalid_spec", "/seed"),
        ({"webhook": {}}, "invalid_spec", "/webhook"),
    ],
)
def test_what_is_wrong_with_a_spec_is_pointed_at(
    http: httpx.Client, wrong: dict[str, object], code: str, pointer: str
) -> None:
    # Given a spec with one thing wrong / When it is posted, or only checked
    answers = [http.post(url, json=SPEC | wrong) for url in ("/v1/jobs", "/v1/jobs?validate_only=true")]
    # Then both say what and where
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert [(fault["code"], fault["pointer"]) for fault in answer.json()["errors"]] == [(code, pointer)]


def test_the_nearest_right_name_is_offered(http: httpx.Client) -> None:
    # Given a misspelt method / When it is posted
    answer = http.post("/v1/jobs", json=SPEC | {"steps": [{"method": "prune_chanels"}]})
    # Then the right one is named
    assert "prune_channels" in answer.json()["detail"]


def test_resources_that_are_not_there_are_pointed_at(http: httpx.Client) -> None:
    # Given ids that are unknown, and a model without content
    model = new_model(http)["id"]
    unknown = "dat_00000000000000000000000000"
    # When jobs name them
    missing = http.post("/v1/jobs", json=SPEC | {"data": {"train": unknown}})
    empty = http.post("/v1/jobs", json=SPEC | {"model": model})
    # Then they are pointed at
    assert (missing.status_code, missing.json()["errors"][0]["pointer"]) == (404, "/data/train")
    assert (empty.status_code, empty.json()["code"], empty.json()["errors"][0]["pointer"]) == (
        422,
        "not_ready",
        "/model",
    )


def test_what_no_worker_can_do_is_refused_once_there_are_workers(api: Api) -> None:
    # Given a worker without CUDA that writes safetensors only
    workers = Workers(api.database)
    workers.announce(card(outputs=["safetensors"]))
    until(lambda: bool(api.http.get("/v1/capabilities").json()["workers"]))
    try:
        # When a job wants CUDA, OpenVINO and ExecuTorch
        wanted = {"device": "cuda", "outputs": ["safetensors", "openvino", "executorch"]}
        answer = api.http.post("/v1/jobs", json=SPEC | wanted)
        # Then all three are refused, each where it stands
        assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [
            ("/device", "device_unavailable"),
            ("/outputs/1", "format_unavailable"),
            ("/outputs/2", "format_unavailable"),
        ]
    finally:
        workers.leave("w1")
        until(lambda: not api.http.get("/v1/capabilities").json()["workers"])


def test_a_quantizer_that_no_worker_has_is_refused(api: Api) -> None:
    # Given a worker without NNCF
    workers = Workers(api.database)
    workers.announce(card())
    until(lambda: api.http.get("/v1/capabilities").json()["quantizers"] == ["plan"])
    try:
        # When a job wants its integers / Then it is told who is there
        dataset = ready_dataset(api.http)
        wanted = {
            "data": {"calibration": dataset, "evaluation": dataset},
            "steps": [{"method": "quantize_static"}],
            "outputs": [{"format": "openvino", "options": {"quantizer": "nncf"}}],
        }
        answer = api.http.post("/v1/jobs", json=SPEC | wanted)
        fault = {"pointer": "/outputs/0/options/quantizer", "code": "format_unavailable"}
        assert answer.json()["errors"] == [fault | {"detail": "No worker has nncf; there is plan."}]
        # And once one has it, the job is taken
        workers.announce(card(id="w2", quantizers=["plan", "nncf"]))
        until(lambda: api.http.get("/v1/capabilities").json()["quantizers"] == ["nncf", "plan"])
        assert api.http.post("/v1/jobs", json=SPEC | wanted).status_code == 202
    finally:
        for worker in ("w1", "w2"):
            workers.leave(worker)
        until(lambda: not api.http.get("/v1/capabilities").json()["workers"])


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"\xff\xfe", b'{"seed": NaN}', b'{"seed": 1e999}', b'{"seed": 1, "seed": 2}',
        b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b"", b"null", b'"\\ud800"',
    ],
    ids=["open", "no utf-8", "nan", "overflow", "twice", "deep list", "deep object", "empty", "null", "surrogate"],
)  # fmt: skip
def test_what_is_no_spec_is_refused_and_never_a_fault_of_ours(http: httpx.Client, body: bytes) -> None:
    # Given a body that is no spec / When it is posted
    answer = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    # Then that is the client's fault
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_write_can_be_repeated(http: httpx.Client) -> None:
    # Given a job that was posted with a key
    headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
    first = http.post("/v1/jobs", json=SPEC, headers=headers)
    # When the same is posted again, and when something else is
    second = http.post("/v1/jobs", json=SPEC, headers=headers)
    other = http.post("/v1/jobs", json=SPEC | {"seed": 7}, headers=headers)
    # Then the same gets the same answer, and the other is refused
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_what_was_accepted_is_answered_again_although_no_worker_can_do_it_now(api: Api) -> None:
    # Given jobs that were posted with a key each, as JSON and in one call, while no worker was alive
    said = {"spec": (None, json.dumps(SPEC), "application/json")}
    bodies: list[dict[str, Any]] = [{"json": SPEC}, {"files": said}]
    keys = [{"Idempotency-Key": f"key-{time.time_ns()}-{index}"} for index in range(len(bodies))]
    first = [api.http.post("/v1/jobs", headers=key, **body) for key, body in zip(keys, bodies, strict=True)]
    # When there is a worker that cannot do them, and they are posted again
    workers = Workers(api.database)
    workers.announce(card(outputs=["safetensors"]))
    until(lambda: bool(api.http.get("/v1/capabilities").json()["workers"]))
    try:
        second = [api.http.post("/v1/jobs", headers=key, **body) for key, body in zip(keys, bodies, strict=True)]
        # Then they get the same answers, and only a new one is refused
        assert [(answer.status_code, answer.content) for answer in second] == [(202, a.content) for a in first]
        assert api.http.post("/v1/jobs", json=SPEC).json()["code"] == "format_unavailable"
    finally:
        workers.leave("w1")
        until(lambda: not api.http.get("/v1/capabilities").json()["workers"])


def test_many_at_once_with_one_key_make_one_job(http: httpx.Client) -> None:
    # Given one key / When eight post with it at the same time
    headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: http.post("/v1/jobs", json=SPEC, headers=headers), range(8)))
    # Then there is one job, and the others got its answer or were told to wait
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1


def test_a_refused_write_frees_its_key(http: httpx.Client) -> None:
    # Given a key with which a wrong job was posted
    headers = {"Idempotency-Key": f"key-{time.time_ns()}"}
    assert http.post("/v1/jobs", json=SPEC | {"model": "mdl_" + "0" * 26}, headers=headers).status_code == 404
    # When the right one is posted with it / Then it is accepted
    assert http.post("/v1/jobs", json=SPEC, headers=headers).status_code == 202


def test_one_call_brings_everything(api: Api) -> None:
    # Given a spec that says what the parts are
    spec = {
        "model": {"architecture": ARCHITECTURE},
        "teacher": {"architecture": {"name": "resnet34", "options": {"num_classes": 10}}},
        "data": {"train": {"format": "image_folder_zip"}, "evaluation": ready_dataset(api.http)},
        "steps": [
            {"method": "distill", "teacher": "uploaded"},
            {"method": "distill", "teacher": ["original", "uploaded"]},
        ],
    }
    files = {
        "spec": (None, json.dumps(spec), "application/json"),
        "model": ("w.safetensors", safetensors(300_000)),
        "teacher": ("t.safetensors", safetensors(10)),
        "train": ("d.zip", zipped(a__1=b"x")),
    }
    # When all is posted in one call
    answer = api.http.post("/v1/jobs", files=files)
    # Then the job is over resources that were made on the way
    assert answer.status_code == 202, answer.text
    made = answer.json()["spec"]
    assert api.http.get(f"/v1/models/{made['model']}").json()["size_bytes"] == len(safetensors(300_000))
    assert api.http.get(f"/v1/datasets/{made['data']['train']}").json()["state"] == "ready"
    assert made["steps"][0]["teacher"].startswith("mdl_")
    assert made["steps"][1]["teacher"] == ["original", made["steps"][0]["teacher"]]


def test_one_call_can_be_checked_and_stores_nothing(http: httpx.Client) -> None:
    # Given a spec that says what the parts are, with a file and without
    spec = SPEC | {"model": {"architecture": ARCHITECTURE}, "data": {"evaluation": ready_dataset(http)}}
    said = {"spec": (None, json.dumps(spec), "application/json")}
    bodies: list[dict[str, object]] = [said, {**said, "model": ("w.safetensors", safetensors(300_000))}]
    before = [http.get(url).json()["data"] for url in ("/v1/models", "/v1/jobs")]
    # When it is only checked
    answers = [http.post("/v1/jobs?validate_only=true", files=files) for files in bodies]
    # Then it comes back with every default, and there is no more than before
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"]["format"] == "safetensors"
        assert answer.json()["steps"][0]["ratio"] == 0.5
    assert [http.get(url).json()["data"] for url in ("/v1/models", "/v1/jobs")] == before


@pytest.mark.parametrize(
    ("wrong", "code", "pointer"),
    [
        ({"steps": [{"method": "prune_chanels"}]}, "unknown_method", "/steps/0/method"),
        ({"model": {"architecture": {"name": "resnet8"}}}, "unknown_architecture", "/model/architecture/name"),
        ({"data": {"train": "dat_" + "1" * 26}}, "not_found", "/data/train"),
    ],
)
def test_what_is_wrong_with_one_call_is_found_when_it_is_checked(
    http: httpx.Client, wrong: dict[str, object], code: str, pointer: str
) -> None:
    # Given a spec with one thing wrong / When it is only checked
    spec = SPEC | {"model": {"architecture": ARCHITECTURE}} | wrong
    answer = http.post("/v1/jobs?validate_only=true", files={"spec": (None, json.dumps(spec), "application/json")})
    # Then it says what and where
    assert (answer.json()["errors"][0]["code"], answer.json()["errors"][0]["pointer"]) == (code, pointer)


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"model": ("m", safetensors())}, 400, "malformed_request"),
        ({"spec": (None, "{}"), "modle": ("m", b"")}, 422, "invalid_spec"),
        ({"spec": (None, json.dumps({"model": UNTRAINED})), "model": ("m", safetensors())}, 422, "invalid_spec"),
        ({"spec": (None, json.dumps({"model": {"architecture": ARCHITECTURE}}))}, 400, "malformed_request"),
        (
            {
                "spec": (None, json.dumps({"model": {"architecture": ARCHITECTURE}})),
                "model": ("m", b"\x80\x04" + bytes(600)),
            },
            415,
            "pickle_not_allowed",
        ),
    ],
)
def test_a_call_with_a_wrong_part_leaves_nothing(
    http: httpx.Client, files: dict[str, object], status: int, code: str
) -> None:
    # Given a call with something wrong in it
    before = http.get("/v1/models").json()["data"][:1], http.get("/v1/jobs").json()["data"][:1]
    # When it is made
    answer = http.post("/v1/jobs", files=files)
    # Then it is refused, and there is no more than before
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (http.get("/v1/models").json()["data"][:1], http.get("/v1/jobs").json()["data"][:1]) == before


def test_who_waits_is_answered_when_the_job_ends(api: Api) -> None:
    # Given a queued job, and somebody who waits for it
    finish_all(api)
    job = api.http.post("/v1/jobs", json=SPEC).json()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(api.http.get(job["links"]["self"], headers={"Prefer": "wait=20"}))
    )
    waiting.start()
    # When the job ends
    finish_all(api)
    waiting.join(timeout=15)
    # Then the answer comes, and says so
    assert answers[0].json()["state"] == "succeeded"
    assert answers[0].headers["preference-applied"] == "wait=20"


def test_events_stream_to_the_last_and_can_be_taken_up_again(api: Api) -> None:
    # Given a job that ends while its events are streamed
    finish_all(api)
    job = api.http.post("/v1/jobs", json=SPEC).json()
    threading.Timer(0.7, lambda: finish_all(api)).start()
    # When the stream is read to its end
    with api.http.stream("GET", job["links"]["events"], headers={"Accept": "text/event-stream"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert (kinds[0], kinds[-1]) == ("job.created", "job.succeeded")
    # Then a client that knows the first event gets the rest
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    with api.http.stream("GET", job["links"]["events"], headers=headers) as stream:
        again = [line for line in stream.iter_lines() if line.startswith("id: ")]
    assert again == [line for line in lines if line.startswith("id: ")][1:]
    # And the list tells the same
    listed = api.http.get(job["links"]["events"], params={"after": 1}).json()
    assert [event["kind"] for event in listed["data"]] == kinds[1:]


def test_cancel_is_final_and_may_be_said_twice(api: Api) -> None:
    # Given a queued job and one that succeeded
    finish_all(api)
    done = api.http.post("/v1/jobs", json=SPEC).json()
    finish_all(api)
    queued = api.http.post("/v1/jobs", json=SPEC).json()
    # When both are cancelled, the first twice
    answers = [api.http.post(queued["links"]["cancel"]) for _ in range(2)]
    late = api.http.post(done["links"]["cancel"])
    # Then the queued one is canceled, and the other one is told why not
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(202, "canceled")] * 2
    assert (late.status_code, late.json()["state"]) == (409, "succeeded")
    assert late.json()["allowed"]


def test_lists_page_and_filter(api: Api) -> None:
    # Given three jobs, one of them labelled
    finish_all(api)
    made = [api.http.post("/v1/jobs", json=SPEC | {"metadata": {"n": str(n)}}).json()["id"] for n in range(3)]
    # When they are listed page by page
    first = api.http.get("/v1/jobs", params={"limit": 2}).json()
    second = api.http.get("/v1/jobs", params={"limit": 2, "after": first["next_cursor"]}).json()
    # Then they come newest first, without gap or double
    assert [job["id"] for job in [*first["data"], *second["data"]]][:3] == made[::-1]
    assert first["has_more"] is True
    # And filters keep what they name
    labelled = api.http.get("/v1/jobs", params={"metadata.n": "1", "state": "queued"}).json()["data"]
    assert [job["id"] for job in labelled] == [made[1]]
    assert api.http.get("/v1/jobs", params={"method": "distill", "metadata.n": "1"}).json()["data"] == []
    assert api.http.get("/v1/jobs", params={"after": "%%%"}).status_code == 422


def test_a_job_that_ended_can_be_tried_again_and_deleted(api: Api) -> None:
    # Given an open job
    finish_all(api)
    job = api.http.post("/v1/jobs", json=SPEC).json()
    assert api.http.delete(job["links"]["self"]).json()["code"] == "in_use"
    # When it has ended
    finish_all(api)
    # Then it can be tried again
    retried = api.http.post(job["links"]["retry"]).json()
    assert (retried["retry_of"], retried["spec"]) == (job["id"], job["spec"])
    # And be deleted
    assert api.http.delete(job["links"]["self"]).status_code == 204
    assert api.http.get(job["links"]["self"]).json()["code"] == "not_found"
