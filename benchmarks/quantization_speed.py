"""How much faster INT8 is than float32 in the same runtime and in the fastest, and what it costs to make it.

All files of a network are timed in one run, each in a process of its own, in alternating blocks.

`python -m benchmarks.quantization_speed ours|onnxruntime` quantizes once and prints its seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.alone import last_word
from benchmarks.peers import by_onnxruntime, by_pt2e
from benchmarks.rows import Row
from benchmarks.untrained import untrained
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.exports import openvino_nncf
from compressor.format import writer
from compressor.measure.clean_process import clean_process
from compressor.measure.latency import time_side_by_side
from compressor.methods import quantize_static
from compressor.quantization.plan import QuantizationPlan
from compressor.quantization.processor import here
from contract.methods.quantize import QuantizeStatic

#: How many times as fast as float32 in ONNX Runtime the fastest artifact shall be; none: to be known.
AIMS = {"resnet18": 3.3, "mobilenet_v2": 2.2, "resnet50": 3.0, "mobilenet_v3_small": None, "efficientnet_b0": None}
TIME_AIM, COMPILED_AIM, TURNS = 1.15, 1.1, 5
THREADS, SIDE, CALIBRATION_IMAGES = 2, 224, 64
GROUP, COMPILED_GROUP = "7 quantization", "7 quantization, compiled"
#: Those whose integers another has chosen; NNCF's are an output of ours too, on request.
PEERS = ("onnx INT8 by ONNX Runtime's script", "openvino INT8 by NNCF")
#: ResNets, whose blocks call their one ReLU twice, torchao's quantizer refuses.
COMPILED, COMPILED_PEER = "mobilenet_v2", "torchao's PT2E"


def images(like: Candidate) -> Images:
    """Noise to calibrate on."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (CALIBRATION_IMAGES, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.zeros(CALIBRATION_IMAGES, dtype=torch.long), like.preprocessing)


def quantized(name: str) -> Candidate:
    """The network in INT8, by our defaults."""
    made = untrained(name, SIDE)
    return quantize_static.apply(made, QuantizeStatic(), Context(calibration=images(made)))


def latencies(name: str) -> dict[str, float]:
    """Milliseconds (p50, batch 1) of the float32 and the INT8 file in both runtimes, and of what their own make."""
    made, plain = quantized(name), untrained(name, SIDE)
    with TemporaryDirectory() as folder:
        written = {**_written(made, "onnx", Path(folder)), **_written(made, "openvino", Path(folder))}
        peer = by_onnxruntime(plain, images(made), Path(folder))
        unquantized = openvino_nncf.Unquantized(plain, images(made), here())
        other = openvino_nncf.write(unquantized, Path(folder), "nncf", integers=made.plan.static)
        return _timed(written | dict(zip(PEERS, ({peer.name: peer}, other), strict=True)), Path(folder))


def compiled_latencies(name: str) -> dict[str, float]:
    """The same of what torch runs, operator by operator and compiled, and of a program by torchao."""
    made = quantized(name)
    with TemporaryDirectory() as folder:
        written = _written(made, "torch_inductor", Path(folder))
        written["torch_export float32"] = writer("torch_export")(_in_floats(made), Path(folder), "plain")
        peer = by_pt2e(untrained(name, SIDE), images(made), Path(folder))
        return _timed(written | {COMPILED_PEER: {peer.name: peer}}, Path(folder))


def _in_floats(made: Candidate) -> Candidate:
    return replace(made, plan=QuantizationPlan())


def _written(made: Candidate, runtime: str, folder: Path) -> dict[str, Mapping[str, Path]]:
    """A network as floats and as integers."""
    forms = {"float32": _in_floats(made), "INT8": made}
    return {f"{runtime} {form}": writer(runtime)(forms[form], folder, f"{form}-{runtime}") for form in forms}


def _timed(written: Mapping[str, Mapping[str, Path]], folder: Path) -> dict[str, float]:
    """Milliseconds (p50, batch 1) of each."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(clean_process(files, scratch=folder, threads=THREADS)) for files in written.values()
        ]
        for process in processes:
            process.prepare(torch.randn(1, 3, SIDE, SIDE))
        timing = time_side_by_side(processes, batch_size=1, threads=THREADS)
    return {which: latency.p50_ms for which, latency in zip(written, timing.latencies, strict=True)}


def _speed(name: str) -> Row:
    found = latencies(name)
    peers = {peer: found.pop(peer) for peer in PEERS}
    reference = found["onnx float32"]
    fastest = min(found, key=lambda which: found[which])
    float32 = min(ms for which, ms in found.items() if which.endswith("float32"))
    int8 = min(ms for which, ms in found.items() if which.endswith("INT8"))
    aim = AIMS[name]
    return Row(
        group=GROUP,
        what=f"{name} at {SIDE} pixels, batch 1, {THREADS} threads: p50 of the fastest file ({fastest})",
        measured=f"{found[fastest]:.2f} ms",
        beside=f"{reference:.2f} ms float32 in ONNX Runtime ({reference / found[fastest]:.2f}x as fast); INT8 is "
        f"{float32 / int8:.2f}x as fast as the fastest float32; {_all(found)}; {_all(peers)}",
        aim="" if aim is None else f">= {aim}x as fast",
        met=None if aim is None else reference / found[fastest] >= aim,
    )


def measure_compiled() -> list[Row]:
    """What torch's compiler makes of the integers."""
    torch.set_num_threads(THREADS)
    found = compiled_latencies(COMPILED)
    ours, peer = found["torch_inductor INT8"], found.pop(COMPILED_PEER)
    row = Row(
        group=COMPILED_GROUP,
        what=f"{COMPILED} at {SIDE} pixels, batch 1, {THREADS} threads: p50 of INT8, compiled by torch's inductor",
        measured=f"{ours:.2f} ms",
        beside=f"{peer:.2f} ms of {COMPILED_PEER}, compiled alike ({ours / peer:.2f}x); {_all(found)}",
        aim=f"<= {COMPILED_AIM}x",
        met=ours / peer <= COMPILED_AIM,
    )
    return [row]


def _all(found: dict[str, float]) -> str:
    return ", ".join(f"{which} {milliseconds:.2f}" for which, milliseconds in found.items())


# --- Time, in a process of its own as a job has it


def _ours(made: Candidate, data: Images, folder: Path) -> None:
    writer("onnx")(quantize_static.apply(made, QuantizeStatic(), Context(calibration=data)), folder, "ours")


_WAYS: dict[str, Callable[[Candidate, Images, Path], object]] = {"ours": _ours, "onnxruntime": by_onnxruntime}


def do(way: str) -> None:
    """Quantize once, from the float network to the file, and say what it took."""
    torch.set_num_threads(THREADS)
    made = untrained("resnet18", SIDE)
    data = images(made)
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        _WAYS[way](made, data, Path(folder))
        sys.stdout.write(f"{time.perf_counter() - began}\n")


def _time() -> Row:
    """The whole step beside ONNX Runtime's script on the same images."""
    turns = [[float(last_word("benchmarks.quantization_speed", way)) for way in _WAYS] for _ in range(TURNS)]
    ours, theirs = (median(turn[i] for turn in turns) for i in (0, 1))
    return Row(
        group=GROUP,
        what=f"quantize_static of resnet18 at {SIDE} pixels on {CALIBRATION_IMAGES} images, with the ONNX file written",
        measured=f"{ours:.1f} s",
        beside=f"{theirs:.1f} s by export and ONNX Runtime's quantize_static ({ours / theirs:.2f}x)",
        aim=f"<= {TIME_AIM}x",
        met=ours / theirs <= TIME_AIM,
    )


def measure() -> list[Row]:
    """All of it."""
    torch.set_num_threads(THREADS)
    return [*_rows(), _time()]


def _rows() -> Iterator[Row]:
    return (_speed(name) for name in AIMS)


if __name__ == "__main__":
    do(sys.argv[1])
