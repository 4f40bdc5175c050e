"""What is tried on one architecture: `python -m benchmarks.coverage_checks NAME CHECK...` prints a finding after each.

`NAME` is one of torchvision's, or one of timm's behind `timm/`.

A process of its own, so that one network's hang, crash or memory costs no other network its row.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.delivery import deliver
from compressor.exports.onnx_runtime import int8_macs_fraction
from compressor.measure.accuracy import answers_to
from compressor.measure.clean_process import clean_process
from compressor.measure.counting import count_macs, count_parameters, zeros
from compressor.methods import prune_channels, prune_weights, quantize_static
from compressor.models.files import read, write
from compressor.models.source import ModelSource, read_candidate
from compressor.quantization.simulate import simulated
from compressor.verify import Expected, check_answers
from contract.architecture import ArchitectureCard, architectures
from contract.artifact import OutputFormat
from contract.failures import ArtifactMismatch, Failure
from contract.methods.prune import PruneChannels, PruneWeights
from contract.methods.quantize import QuantizeStatic
from contract.model import Architecture, ModelFormat, Preprocessing
from contract.spec import Output
from contract.value import Value

#: What of the channels goes.
RATIO = 0.3
#: The same before quantization.
HALF = 0.5
#: Images must be small for this to end; these of torchvision's take no smaller ones than this, in pixels.
_SIDES = {"vit_h": 70, "vit": 96, "maxvit": 224, "inception": 96, "swin": 96}
_IMAGES = 32
CLASSES = 10

#: Methods of `Trial`, in the order in which they are tried.
Check = Literal["builds", "prune_weights", "prune_channels", "onnx", "quantize_static", "pruned_and_quantized"]
CHECKS: tuple[Check, ...] = get_args(Check)


class Finding(Value):
    """How one check went."""

    check: Check
    #: `refused` is a named failure; `failed` is anything else.
    outcome: Literal["passed", "refused", "failed"]
    #: The failure's code and sentence.
    detail: str = ""
    #: Such as parameters left over parameters before.
    figures: dict[str, float] = Field(default_factory=dict)
    seconds: float = 0.0


def named(name: str) -> ArchitectureCard:
    """The architecture of this name, or of this name behind `timm/`."""
    library, _, own = name.rpartition("/")
    return architectures()[library or "torchvision", own]


def side_of(card: ArchitectureCard) -> int:
    """Height and width of the images on which the architecture is tried; those of timm take what they are made for."""
    if card.library == "timm":
        return card.preprocessing.size[0]
    return next((side for prefix, side in _SIDES.items() if card.name.startswith(prefix)), 64)


class Trial:
    """One architecture with settled random weights, and noise for images."""

    def __init__(self, name: str, folder: Path) -> None:
        card = named(name)
        self._folder, side = folder, side_of(card)
        noise = torch.randn(_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
        preprocessing = Preprocessing(size=(side, side), mean=(0.5,) * 3, std=(0.25,) * 3)
        self.images = Images(noise, torch.arange(_IMAGES) % CLASSES, preprocessing)
        sized = card.library == "torchvision" and card.name.startswith("vit")
        options = {"num_classes": CLASSES} | ({"image_size": side} if sized else {})
        self._source = ModelSource(
            architecture=Architecture.model_validate({"library": card.library, "name": card.name, "options": options}),
            format=ModelFormat.SAFETENSORS,
            preprocessing=preprocessing,
        )

    def candidate(self) -> Candidate:
        """The network as every check begins with it."""
        candidate = read_candidate(self._source, None, seed=0)
        _settle(candidate.module, self.images.pixels)
        return candidate

    def builds(self) -> Mapping[str, float]:
        """How many parameters it has."""
        return {"parameters": count_parameters(self.candidate().module)}

    def prune_weights(self) -> Mapping[str, float]:
        """The fraction of zeros after half of every layer is pruned."""
        pruned = prune_weights.apply(self.candidate(), PruneWeights(), Context())
        self._answers(pruned)
        return {"zeros": zeros(pruned.module)}

    def prune_channels(self) -> Mapping[str, float]:
        """What is left of parameters and MACs; rebuilt from its files, and written as ONNX."""
        before = self.candidate()
        parameters, macs = count_parameters(before.module), count_macs(before.module, before.input_shape).total
        pruned = prune_channels.apply(before, PruneChannels(ratio=RATIO), Context())
        self._check_rebuilt(pruned)
        return {
            "parameters_left": count_parameters(pruned.module) / parameters,
            "macs_left": count_macs(pruned.module, pruned.input_shape).total / macs,
            **self._delivered(pruned),
        }

    def onnx(self) -> Mapping[str, float]:
        """The bytes of its float32 ONNX file, which a clean process has run."""
        return self._delivered(self.candidate())

    def quantize_static(self) -> Mapping[str, float]:
        """The bytes of its INT8 ONNX file, and the part of the MACs that ONNX Runtime does in integers."""
        return self._delivered(self._quantized(self.candidate()))

    def pruned_and_quantized(self) -> Mapping[str, float]:
        """The same after channels are removed."""
        return self._delivered(
            self._quantized(prune_channels.apply(self.candidate(), PruneChannels(ratio=HALF), Context()))
        )

    def _quantized(self, candidate: Candidate) -> Candidate:
        return quantize_static.apply(candidate, QuantizeStatic(), Context(calibration=self.images))

    def _answers(self, candidate: Candidate) -> Tensor:
        logits = answers_to(((batch.x,) for batch in self.images.batches(8)), simulated(candidate))
        if logits.shape != (_IMAGES, CLASSES) or not logits.isfinite().all():
            raise ArtifactMismatch(f"The network answers with {tuple(logits.shape)}, or not in finite numbers.")
        return logits

    def _float(self, candidate: Candidate) -> Tensor:
        return answers_to(((batch.x,) for batch in self.images.batches(8)), candidate.module)

    def _check_rebuilt(self, candidate: Candidate) -> None:
        with TemporaryDirectory(dir=self._folder) as folder:
            write(candidate, Path(folder))
            rebuilt = read(Path(folder))
        if not torch.equal(self._answers(candidate), self._float(rebuilt)):
            raise ArtifactMismatch("The network that its files rebuild answers otherwise.")

    def _delivered(self, candidate: Candidate) -> Mapping[str, float]:
        expected = Expected(answers=self._answers(candidate), unrounded=lambda: self._float(candidate), noise=True)
        delivery = deliver(candidate, Output(format=OutputFormat.ONNX), self._folder)
        with clean_process(delivery.files, scratch=self._folder, threads=torch.get_num_threads()) as process:
            found = torch.cat([process.answer(batch.x) for batch in self.images.batches(8)])
        check_answers(delivery, expected, found)
        figures = {"size_bytes": float(delivery.main.stat().st_size)}
        if not candidate.plan.empty:
            figures["int8_macs"] = int8_macs_fraction(delivery.main)
        delivery.main.unlink()
        return figures


def _settle(module: nn.Module, x: Tensor) -> None:
    """Give the network what training gives: statistics of its activations, and answers that depend on the image."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.data.normal_(0, 0.1, generator=generator)
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        module(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def _found(check: Check, run: Callable[[], Mapping[str, float]]) -> Finding:
    began = time.monotonic()
    try:
        figures = dict(run())
    except Failure as failure:
        outcome: Literal["refused", "failed"] = "failed" if isinstance(failure, ArtifactMismatch) else "refused"
        finding = Finding(check=check, outcome=outcome, detail=f"`{failure.code}`: {failure.detail}")
    # A sweep goes on whatever one of its checks raises.
    except Exception as error:
        finding = Finding(check=check, outcome="failed", detail=f"{type(error).__name__}: {str(error)[:300]}")
    else:
        finding = Finding(check=check, outcome="passed", figures=figures)
    return finding.model_copy(update={"seconds": round(time.monotonic() - began, 1)})


def main(name: str, wanted: Sequence[str]) -> None:
    """Try what is wanted on one architecture."""
    with TemporaryDirectory() as folder:
        trial = Trial(name, Path(folder))
        for check in CHECKS:
            if check in wanted:
                print(_found(check, getattr(trial, check)).model_dump_json(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
