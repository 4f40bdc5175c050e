"""The API keeps to its own description, whatever is sent (schemathesis over openapi.json)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.service.conftest import Api

ROOT = Path(__file__).parents[3]

#: Streams that end with a job, and uploads, have tests of their own.
LEFT_OUT = ("--exclude-path-regex", "events$|content$")


@pytest.mark.parametrize("api", ["sqlite"], indirect=True)
def test_nothing_that_a_client_sends_is_a_fault_of_ours(api: Api, tmp_path: Path) -> None:
    # Given the running API and its description
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(ROOT / "openapi" / "openapi.json"),
        "--url", f"http://127.0.0.1:{api.settings.port}", "--checks", checks, "--phases", "examples,coverage,fuzzing",
        "--max-examples", "6", "--seed", "1", "--no-color", *LEFT_OUT,
    ]  # fmt: skip
    # When requests are made up from it, right and wrong ones
    ran = subprocess.run(command, cwd=tmp_path, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
                         capture_output=True, text=True)  # fmt: skip
    # Then every answer is one that the description knows, and none is a 5xx
    assert ran.returncode == 0, ran.stdout[-6000:]
