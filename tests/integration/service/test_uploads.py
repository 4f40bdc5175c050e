"""Content arrives as a whole and as announced, or not at all."""

import socket
from hashlib import sha256

import httpx
import pytest

from tests.deadline import until
from tests.integration.service.bodies import ARCHITECTURE, digest_field, new_model, safetensors, zipped
from tests.integration.service.conftest import Api


def test_a_model_is_ready_once_its_content_is_there(http: httpx.Client) -> None:
    # Given a model that awaits its content
    created = new_model(http, name="mine")
    assert created["state"] == "awaiting_content"
    # When the bytes arrive as they were announced
    content = safetensors()
    links = created["links"]
    assert isinstance(links, dict)
    answer = http.put(links["content"], content=content, headers={"Repr-Digest": digest_field(content)})
    # Then it is ready, and tells their size and digest
    model = answer.json()
    assert (answer.status_code, model["state"], model["size_bytes"]) == (200, "ready", len(content))
    assert model["sha256"] == sha256(content).hexdigest()
    # And they can be fetched as they were sent
    assert http.get(links["content"]).content == content
    # And sending them again, announced or not, does no harm
    for headers in ({}, {"Repr-Digest": digest_field(content)}):
        again = http.put(links["content"], content=content, headers=headers)
        assert (again.status_code, again.json()) == (200, model)
    # And others cannot take their place
    others = safetensors(65)
    for headers in ({}, {"Repr-Digest": digest_field(others)}):
        refused = http.put(links["content"], content=others, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
        assert refused.json()["state"] == "ready"


def test_preprocessing_defaults_to_what_the_architecture_documents(http: httpx.Client) -> None:
    # Given a model of which only the input's size is said / When it is created
    created = new_model(http, preprocessing={"size": [64, 64]})
    # Then the rest is what torchvision's weights document
    assert created["preprocessing"] == {
        "size": [64, 64], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": "rgb", "crop": 0.875,
    }  # fmt: skip


def test_for_gray_images_colours_are_documented_at_their_luma(http: httpx.Client) -> None:
    # Given a model for gray images, whose architecture documents colours / When it is created
    created = new_model(http, preprocessing={"size": [28, 28], "channels": "gray"})["preprocessing"]
    # Then there is one number for the one channel, and what was said stays
    assert isinstance(created, dict)
    assert (created["mean"], created["std"]) == ([0.459], [0.2256])
    one = new_model(http, preprocessing={"mean": [0.5], "std": [0.25, 0.25, 0.3]})["preprocessing"]
    assert isinstance(one, dict)
    assert (one["mean"], one["std"]) == ([0.5, 0.5, 0.5], [0.25, 0.25, 0.3])


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"preprocessing": {"channels": "gray", "mean": [0.5, 0.5, 0.5]}}, "/preprocessing/mean"),
        ({"preprocessing": {"std": [0.5, 0.5]}}, "/preprocessing/std"),
        ({"preprocessing": {"crop": 1e-9}}, "/preprocessing/crop"),
        ({"classes": ["crane", "heron", "crane"]}, "/classes"),
    ],
)
def test_what_no_image_can_be_read_by_is_refused_at_once(
    http: httpx.Client, said: dict[str, object], pointer: str
) -> None:
    # Given a model whose images or classes nobody could read / When it is created / Then what is wrong is pointed to
    answer = http.post("/v1/models", json={"architecture": {"name": "resnet18"}, **said})
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_a_fault_in_a_member_called_body_is_pointed_at(http: httpx.Client) -> None:
    # Given a label of that name that is no text / When a model is created with it
    answer = http.post("/v1/models", json={"architecture": ARCHITECTURE, "metadata": {"body": 1}})
    # Then it is pointed at
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/metadata/body"]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Repr-Digest": digest_field(b"something else")}, 422, "digest_mismatch"),
        ({"Content-Digest": "sha-256=:no base64!:"}, 400, "malformed_request"),
        ({"Repr-Digest": "sha-256=abcdef"}, 400, "malformed_request"),
        ({"Repr-Digest": "sha-512=:AAAA:, SHA-256"}, 400, "malformed_request"),
    ],
)
def test_bytes_that_are_not_those_announced_leave_nothing(
    http: httpx.Client, headers: dict[str, str], status: int, code: str
) -> None:
    # Given a model
    links = new_model(http)["links"]
    assert isinstance(links, dict)
    # When bytes arrive with the digest of others
    answer = http.put(links["content"], content=safetensors(), headers=headers)
    # Then they are refused and the model still awaits its content
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert http.get(links["self"]).json()["state"] == "awaiting_content"


def test_a_body_larger_than_allowed_is_refused_before_it_is_read(http: httpx.Client) -> None:
    # Given a body above the limit, announced and not / When it is sent
    links = new_model(http)["links"]
    assert isinstance(links, dict)
    size = 5 * 1024**2
    announced = http.put(links["content"], content=safetensors(size))
    streamed = http.put(links["content"], content=iter([safetensors(size)]))
    # Then it is refused both times
    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert announced.json()["code"] == "body_too_large"


def test_a_client_that_breaks_off_leaves_nothing(api: Api) -> None:
    # Given an upload that stops in its midst
    links = new_model(api.http)["links"]
    assert isinstance(links, dict)
    connection = socket.create_connection(("127.0.0.1", api.settings.port))
    head = f"PUT {links['content']} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    connection.sendall(head.encode() + safetensors(1000))
    connection.close()
    # Then the model still awaits its content, and no bytes of it lie about
    inbox = api.settings.data_dir / "blobs"
    until(lambda: not [p for p in inbox.rglob("*") if p.is_file() and "t-default" not in str(p)], seconds=20)
    assert api.http.get(links["self"]).json()["state"] == "awaiting_content"


@pytest.mark.parametrize(
    ("format", "content", "code"),
    [
        ("safetensors", b"\x80\x04\x95" + bytes(100), "pickle_not_allowed"),
        ("safetensors", zipped(a=b"x"), "unsupported_format"),
        ("safetensors", bytes(600), "unsupported_format"),
        ("safetensors", b"", "unsupported_format"),
        ("pt", b"\x80\x02\x8a\x0al\xfc" + bytes(600), "pickle_not_allowed"),
        ("pt", zipped(m__constants__pkl=b"", **{"m__code__x.py": b""}), "executable_model_not_allowed"),
        ("pt", zipped(**{"archive_format": b"pt2", "models__model.json": b""}), "executable_model_not_allowed"),
        ("pt", zipped(readme=b"hello"), "unsupported_format"),
        ("pt", bytes(257) + b"ustar" + bytes(500), "unsupported_format"),
        ("pt", b"\x89HDF\r\n" + bytes(600), "unsupported_format"),
    ],
)
def test_what_is_no_model_is_refused_by_name(http: httpx.Client, format: str, content: bytes, code: str) -> None:
    # Given a model of a format
    links = new_model(http, format=format)["links"]
    assert isinstance(links, dict)
    # When something else arrives
    answer = http.put(links["content"], content=content)
    # Then it is refused by name
    assert (answer.status_code, answer.json()["code"]) == (415, code), answer.text


def test_an_npz_of_other_things_than_arrays_is_refused(http: httpx.Client) -> None:
    # Given a dataset of arrays
    created = http.post("/v1/datasets", json={"format": "npz"}).json()
    # When an archive with a pickle in it arrives
    answer = http.put(created["links"]["content"], content=zipped(**{"x.npy": b"", "y.pkl": b""}))
    # Then it is refused
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
