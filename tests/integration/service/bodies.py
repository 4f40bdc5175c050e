"""What tests send."""

import io
import json
import zipfile
from base64 import b64encode
from hashlib import sha256

import httpx

ARCHITECTURE = {"library": "torchvision", "name": "resnet18", "options": {"num_classes": 10}}
UNTRAINED = {"architecture": ARCHITECTURE, "weights": "none"}


def safetensors(size: int = 64) -> bytes:
    """A file that begins as safetensors files do."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def zipped(**members: bytes) -> bytes:
    """A zip archive; `__` in a name stands for a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def digest_field(content: bytes) -> str:
    """`Repr-Digest` of the content."""
    return f"sha-256=:{b64encode(sha256(content).digest()).decode()}:"


def new_model(http: httpx.Client, **said: object) -> dict[str, object]:
    """A model that awaits its content."""
    answer = http.post("/v1/models", json={"architecture": ARCHITECTURE, **said})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def ready_dataset(http: httpx.Client) -> str:
    """Id of a dataset with content."""
    created = http.post("/v1/datasets", json={"format": "image_folder_zip"}).json()
    answer = http.put(created["links"]["content"], content=zipped(a__1=b"x", b__1=b"y"))
    assert answer.status_code == 200, answer.text
    return str(created["id"])
