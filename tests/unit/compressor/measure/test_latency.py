from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from compressor.measure.clean_process import CleanProcess, clean_process
from compressor.measure.latency import LEAST, RUNS, time_side_by_side
from contract.failures import ArtifactMismatch


def write_onnx(path: Path, *, products: int, width: int = 64) -> Path:
    """A file that multiplies (N, width) by a matrix so many times."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [width, width], torch.eye(width).flatten().tolist())
    names = ["image", *(f"h{i}" for i in range(1, products)), "logits"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(products)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in ("image", "logits")]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[CleanProcess, CleanProcess]]:
    with ExitStack() as stack:
        yield tuple(  # type: ignore[misc]
            stack.enter_context(
                clean_process(
                    {"model.onnx": write_onnx(tmp_path / f"{n}.onnx", products=n)}, scratch=tmp_path, threads=1
                )
            )
            for n in (1, 400)
        )


def test_two_files_are_timed_side_by_side(processes: tuple[CleanProcess, CleanProcess]) -> None:
    # Given a file that does one product and one that does 400, loaded in processes of their own
    for process in processes:
        process.prepare(torch.randn(8, 64))
    # When they are timed
    timing = time_side_by_side(processes, batch_size=8, threads=1)
    # Then each has its percentiles in order, from enough runs, with the circumstances named
    short, long = timing.latencies
    assert short.p50_ms < long.p50_ms
    for latency in timing.latencies:
        assert 0 < latency.p50_ms <= latency.p90_ms <= latency.p99_ms
        assert LEAST <= latency.n <= RUNS
        assert (latency.batch_size, latency.threads, latency.device) == (8, 1, "cpu")
        assert latency.runtime.startswith("onnxruntime ")
        assert latency.instruction_set
    # And load by others was watched
    assert timing.other_cores is not None


def test_a_witness_answers_with_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a secret in our environment
    monkeypatch.setenv("MODELPRESS_API_KEYS", "secret")
    file = write_onnx(tmp_path / "any.onnx", products=1)
    with clean_process({"model.onnx": file}, scratch=tmp_path, threads=1) as process:
        # When the witness answers
        x = torch.randn(5, 64)
        logits = process.answer(x)
        # Then it does so with the file's network, without having seen the secret or anything but the file
        assert torch.allclose(logits, x, atol=1e-6)
        assert process.peak_memory() > 10_000_000
        assert process.loaded.seconds > 0
        assert b"secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        folder = Path(f"/proc/{process.pid}/cwd").resolve()
        assert {path.name for path in folder.iterdir()} == {"model.onnx", "inputs.npy", "outputs.npy", "tmp"}
    # And nothing is left of it
    assert not folder.exists()


def test_what_cannot_be_loaded_is_a_mismatch(tmp_path: Path) -> None:
    # Given a file that is no network
    file = tmp_path / "broken.onnx"
    file.write_bytes(b"not a protobuf message at all")
    # When a clean process tries it, then the failure says which file and why, and names no folder of this machine
    with (
        pytest.raises(ArtifactMismatch, match=r"model\.onnx could not be loaded") as caught,
        clean_process({"model.onnx": file}, scratch=tmp_path, threads=1),
    ):
        pytest.fail("the witness says that it has loaded the file")
    assert str(tmp_path) not in caught.value.detail


def test_a_file_that_cannot_take_the_input_is_a_mismatch(tmp_path: Path) -> None:
    # Given a file that wants 64 numbers
    file = write_onnx(tmp_path / "any.onnx", products=1)
    with (
        clean_process({"model.onnx": file}, scratch=tmp_path, threads=1) as process,
        # When it is given 65, then that is its failure
        pytest.raises(ArtifactMismatch, match=r"model\.onnx could not be loaded and run"),
    ):
        process.answer(torch.randn(1, 65))
