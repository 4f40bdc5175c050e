"""What pruning channels costs and brings: time and memory beside Torch-Pruning called directly, and latency behind it.

`python -m benchmarks.pruning_costs ours|torch-pruning` does one pruning and prints its seconds and the bytes by which
the process grew at most.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch_pruning as tp
from torch import nn

from benchmarks.alone import last_word
from benchmarks.rows import Row
from benchmarks.untrained import untrained
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.measure.counting import count_macs
from compressor.methods import prune_channels
from compressor.stopwatch import Stopwatch
from contract.methods.prune import PruneChannels

TURNS = 3
#: Part of the multiply-accumulates that is left, and the latency that may be left at most, by side in pixels.
MACS_RATIO, LATENCY_AIMS = 0.25, {64: 0.22, 224: 0.32}
#: Ratios of layers' own, by side in pixels. Where images are small the time goes into reading weights: the last two
#: stages of a ResNet-18 have nine tenths of them, and half of the multiply-accumulates.
OWN_RATIOS: Mapping[int, Mapping[str, float]] = {64: {"layer3.*": 0.6, "layer4.*": 0.8}, 224: {}}
#: What float32 kernels with AVX-512 want: with multiples of 8 the same network is a fifth slower.
ROUND_TO = 32
TIME_AIM, MEMORY_AIM = 1.1, 1.2


def _candidate(name: str, side: int) -> Candidate:
    return untrained(name, side, num_classes=10)


# --- Time and memory, each in a process of its own


def _ours() -> Callable[[], object]:
    candidate = _candidate("resnet50", 224)
    return lambda: prune_channels.apply(candidate, PruneChannels(ratio=0.5), Context())


def _torch_pruning() -> Callable[[], object]:
    module, example = _candidate("resnet50", 224).module, torch.zeros(1, 3, 224, 224)
    heads = [part for part in module.modules() if isinstance(part, nn.Linear)]

    def prune() -> None:
        # As its README has it, and as our step's report does: counted before and behind.
        tp.utils.count_ops_and_params(module, example)
        pruner = tp.pruner.BasePruner(
            module, example, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=0.5,
            ignored_layers=heads, round_to=8,
        )  # fmt: skip
        pruner.step()
        tp.utils.count_ops_and_params(module, example)

    return prune


_WAYS = {"ours": _ours, "torch-pruning": _torch_pruning}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def do(way: str) -> None:
    """Prune once, and say what it took."""
    warnings.simplefilter("ignore")
    prune = _WAYS[way]()
    began = time.perf_counter()
    prune()
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, "bytes": _peak()}) + "\n")


def _done(way: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(last_word("benchmarks.pruning_costs", way))
    return found


def _costs() -> list[Row]:
    turns = [(_done("ours"), _done("torch-pruning")) for _ in range(TURNS)]
    ours, theirs = ({key: median(turn[i][key] for turn in turns) for key in turns[0][i]} for i in (0, 1))
    return [
        _beside("time", ours["seconds"], theirs["seconds"], "{:.2f} s", TIME_AIM),
        _beside("peak memory of the process", ours["bytes"] / 2**20, theirs["bytes"] / 2**20, "{:.0f} MiB", MEMORY_AIM),
    ]


def _beside(what: str, ours: float, theirs: float, unit: str, aim: float) -> Row:
    return Row(
        group="6 pruning",
        what=f"prune_channels of ResNet-50 at 224 pixels, ratio 0.5, MACs counted before and behind: {what}",
        measured=unit.format(ours),
        beside=f"{unit.format(theirs)} by Torch-Pruning called directly ({ours / theirs:.2f}x)",
        aim=f"<= {aim}x",
        met=ours / theirs <= aim,
    )


# --- Latency


def _latency(side: int, threads: int) -> Row:
    before = _candidate("resnet18", side)
    own = OWN_RATIOS[side]
    params = PruneChannels(macs_ratio=MACS_RATIO, round_to=ROUND_TO, ratio_by_layer=dict(own))
    after = prune_channels.apply(_candidate("resnet18", side), params, Context())
    macs = [count_macs(one.module, one.input_shape).total for one in (before, after)]
    with TemporaryDirectory() as folder:
        was, now = Stopwatch(scratch=Path(folder), batch_size=1, threads=threads)([before, after])
    return Row(
        group="6 pruning",
        what=f"ResNet-18 at {side} pixels, macs_ratio {MACS_RATIO} ({macs[1] / macs[0]:.3f}), round_to {ROUND_TO}"
        f"{''.join(f', ratio {ratio:g} in {layers}' for layers, ratio in own.items())}: "
        f"p50 in ONNX Runtime, batch 1, {threads} thread{'s' if threads > 1 else ''}",
        measured=f"{now:.2f} ms",
        beside=f"{was:.2f} ms before ({now / was:.3f}x)",
        aim=f"<= {LATENCY_AIMS[side]}x",
        met=now / was <= LATENCY_AIMS[side],
    )


def measure() -> list[Row]:
    """All of it."""
    return [*_costs(), *(_latency(side, threads) for side in LATENCY_AIMS for threads in (2, 1))]


if __name__ == "__main__":
    do(sys.argv[1])
