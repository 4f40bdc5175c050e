"""What torch makes of `model.safetensors` and the `model.json` beside it."""

from pathlib import Path

import torch

from compressor.format import Floats, Run
from compressor.models.files import load_model


def version() -> str:
    """The runtime and its version."""
    return f"torch {torch.__version__}"


def open_file(path: Path, threads: int) -> Run:
    """The network in the file's folder."""
    torch.set_num_threads(threads)
    module = load_model(path.parent).eval()

    def run(x: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = module(torch.from_numpy(x)).numpy()
        return logits

    return run


def int8_macs_fraction(path: Path) -> None:
    """Nothing that could be counted: integers are simulated in float32."""
