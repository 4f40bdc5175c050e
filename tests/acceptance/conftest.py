"""The real stack, started once for all acceptance tests, and what is uploaded to it."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from contract.settings import Settings
from modelpress.client import Client

#: Where a stack that is already running is to be tested instead, such as the composed one.
URL, KEY = "MODELPRESS_TEST_URL", "MODELPRESS_TEST_KEY"


@pytest.fixture(scope="package")
def service_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers."""
    if url := os.environ.get(URL):
        yield url
        return
    from modelpress.up import Stack

    folder = tmp_path_factory.mktemp("stack")
    # Two slots give a job one thread on two cores: other tests run beside it, and two pools slow each other.
    with Stack(Settings(port=0, data_dir=folder, slots=2)) as stack:
        yield stack.url


@pytest.fixture(scope="package")
def client(service_url: str) -> Iterator[Client]:
    """A client of the service."""
    with Client(service_url, api_key=os.environ.get(KEY)) as client:
        yield client


def digits_zip(path: Path, *, count: int, offset: int = 0) -> Path:
    """A zip of class folders with the real handwritten digits from `offset` on."""
    digits = load_digits()
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(offset, offset + count):
            picture = Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8)).convert("RGB")
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            archive.writestr(f"{digits.target[index]}/{index:04}.png", buffer.getvalue())
    return path


@pytest.fixture(scope="package")
def train_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits to learn from."""
    return digits_zip(tmp_path_factory.mktemp("data") / "train.zip", count=96)


@pytest.fixture(scope="package")
def evaluation_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other digits."""
    return digits_zip(tmp_path_factory.mktemp("data") / "evaluation.zip", count=64, offset=600)


@pytest.fixture(scope="package")
def train(client: Client, train_zip: Path) -> str:
    """Id of the uploaded training data."""
    return client.upload_dataset(train_zip, name="digits-train").id


@pytest.fixture(scope="package")
def evaluation(client: Client, evaluation_zip: Path) -> str:
    """Id of the uploaded evaluation data."""
    return client.upload_dataset(evaluation_zip, name="digits-evaluation").id


@pytest.fixture(scope="package")
def http(service_url: str) -> Iterator[httpx.Client]:
    """The service without our client in between."""
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY)) else {}
    with httpx.Client(base_url=service_url, headers=headers, timeout=60) as http:
        yield http
