"""With keys set, nobody without one gets past the health checks; without keys, nobody else's machine gets in."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contract.settings import Settings
from tests.integration.service.conftest import Api, serving

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API with two keys."""
    with serving(tmp_path_factory.mktemp("guarded"), api_keys="first-key,second-key") as api:
        yield api


def every_operation() -> list[tuple[str, str]]:
    paths = json.loads((ROOT / "openapi" / "openapi.json").read_text())["paths"]
    return [(method, path) for path, operations in paths.items() for method in operations]


@pytest.mark.parametrize(("method", "path"), every_operation())
def test_no_operation_answers_without_a_key(guarded: Api, method: str, path: str) -> None:
    # Given an operation of the API / When it is called without a key, and with a wrong one
    url = path.replace("{", "x").replace("}", "")
    answers = [
        guarded.http.request(method, url, headers=headers)
        for headers in ({}, {"Authorization": "Bearer first-ke"}, {"Authorization": "Basic first-key"})
    ]
    # Then it says how to log in, unless it only tells that the service lives
    if path in ("/healthz", "/readyz"):
        assert [answer.status_code for answer in answers] == [200] * 3
        return
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["x-request-id"] == answer.json()["request_id"]


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_opens_the_door(guarded: Api, key: str) -> None:
    answer = guarded.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200


def test_without_keys_it_does_not_leave_this_machine(tmp_path: Path) -> None:
    # Given an address that others reach, and no keys
    settings = Settings(host="0.0.0.0", port=0, data_dir=tmp_path)
    # When the service is started
    command = [sys.executable, "-m", "service"]
    environment = {**os.environ, **settings.environment()}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    # Then it refuses, and says what to do
    assert ran.returncode == 2
    assert "set MODELPRESS_API_KEYS" in ran.stderr


def test_what_is_open_to_all_tells_nothing(guarded: Api) -> None:
    # Given no key / When health is asked for / Then it names no place and no version
    told = httpx.get(f"http://127.0.0.1:{guarded.settings.port}/readyz", trust_env=False).json()
    assert set(told) == {"status", "database", "blobs", "broker"}
