"""Torch's exporters say too much while they work, and too little when they fail."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch.export import ExportedProgram
from torch.fx import GraphModule


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporter's chatter about its own optimizations and its own future out of the job's log."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def strip(program: ExportedProgram) -> None:
    """Remove every trace of the machine: torch keeps stack traces with file paths, and the classes of the modules."""
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    program.example_inputs = None
