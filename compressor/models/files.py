"""A candidate on disk: `model.safetensors` and `model.json`, which rebuild it without the service."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.measure.finite import check_finite
from compressor.models import edits
from compressor.models.architectures import build_hollow
from compressor.models.digits import DigitLayout, from_digits, packed_codes
from compressor.models.edits import Edit, apply_edits
from compressor.models.sparse import SparseLayout, packed, unpacked
from compressor.models.weights import read_safetensors
from compressor.quantization.plan import CODES, PlanDocument, QuantizationPlan, restored
from compressor.quantization.simulate import simulated
from contract.failures import InvalidModel
from contract.model import Architecture, Preprocessing
from contract.value import Value

#: Raised when older readers would misread what is written.
VERSION = 3
WEIGHTS, DOCUMENT = "model.safetensors", "model.json"
_MASK = "#mask"
_LACKING = f"{WEIGHTS} lacks what {DOCUMENT} speaks of."
#: Rebuilt answers may differ by this part of the largest logit, since another machine may add in another order.
_TOLERANCE = 1e-3


class Probe(Value):
    """What the network answers to a seeded random input, kept so that a rebuilt one can be checked."""

    seed: int = 0
    logits: tuple[float, ...]


class Document(Value):
    """model.json."""

    format: str = "modelpress"
    version: int = VERSION
    #: The base that the library builds, before the edits.
    architecture: Architecture
    #: Versions of the libraries that built it.
    libraries: dict[str, str]
    preprocessing: Preprocessing
    num_classes: int
    classes: tuple[str, ...] | None = None
    edits_version: int = edits.VERSION
    edits: tuple[Edit, ...] = ()
    #: By parameter: `zeros` where exactly the zero weights are pruned, `exceptions` where not those in `NAME#mask`.
    masks: dict[str, Literal["zeros", "exceptions"]] = Field(default_factory=dict)
    plan: PlanDocument = PlanDocument()
    #: Tensors of which only what is not zero is stored, by name.
    sparse: dict[str, SparseLayout] = Field(default_factory=dict)
    #: Codes that are packed closer than one to a byte, by the name under which they are stored.
    digits: dict[str, DigitLayout] = Field(default_factory=dict)
    #: Names that share the tensor of another name.
    tied: dict[str, str] = Field(default_factory=dict)
    probe: Probe


def write(candidate: Candidate, folder: Path) -> None:
    """Write the candidate into `folder`; weights that have codes or halves are stored as those.

    Raises `UnfitModel` where the network answers with NaN or infinity.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probed = _probed(simulated(candidate), candidate.input_shape, seed=0)
    check_finite(torch.tensor([probed]))
    state = candidate.module.state_dict()
    tied = _tied(state)
    exceptions = _exceptions(state, candidate.masks)
    left = {n: t.detach().cpu() for n, t in state.items() if n not in tied and n not in candidate.plan.weights}
    planned = {name: tensor.cpu() for name, tensor in candidate.plan.tensors().items()}
    codes = {name: tensor for name, tensor in planned.items() if name.endswith(CODES)} | exceptions
    stored, sparse = packed({n: t for n, t in (left | planned).items() if n not in codes})
    short, sparse_codes, digits = packed_codes(codes)
    tensors = stored | short
    save_file({name: tensors[name].clone().contiguous() for name in sorted(tensors)}, folder / WEIGHTS)
    document = Document(
        architecture=candidate.architecture,
        libraries={name: version(name) for name in ("torch", candidate.architecture.library)},
        preprocessing=candidate.preprocessing,
        num_classes=candidate.num_classes,
        classes=candidate.classes,
        edits=candidate.edits,
        masks={name: "exceptions" if name + _MASK in exceptions else "zeros" for name in candidate.masks},
        plan=candidate.plan.document(),
        tied=tied,
        sparse=sparse | sparse_codes,
        digits=digits,
        probe=Probe(logits=probed),
    )
    (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n")


def read(folder: Path) -> Candidate:
    """The candidate that was written into `folder`, in eval mode.

    Raises `InvalidModel` where the files are not what `write` writes, or the rebuilt network answers otherwise than
    the one that was written.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[Candidate, nn.Module]:
    """The candidate, and the network that computes what its plan means."""
    document = _read_document(folder / DOCUMENT)
    tensors, plan = _read_tensors(folder, document)
    try:
        state = _state(document, tensors, plan)
        masks = {name: _mask(state[name], tensors, name, layout) for name, layout in document.masks.items()}
    except (KeyError, IndexError, RuntimeError) as error:
        raise InvalidModel(_LACKING) from error
    candidate = Candidate(
        module=_rebuilt(document, state).eval(),
        architecture=document.architecture,
        preprocessing=document.preprocessing,
        num_classes=document.num_classes,
        classes=document.classes,
        edits=document.edits,
        masks=masks,
        plan=plan,
    )
    computing = simulated(candidate)
    _check_probe(computing, candidate, document.probe)
    return candidate, computing


def load_model(folder: Path | str) -> nn.Module:
    """The network in `folder`, on the CPU in eval mode: (N, C, H, W) float32, normalized, to (N, classes) logits.

    It computes what was delivered: where the job quantized, the integers are simulated. Raises `InvalidModel`.
    """
    return _read(Path(folder))[1]


def read_plan(folder: Path) -> QuantizationPlan:
    """The plan of the candidate in `folder`, and nothing of its network; raises `InvalidModel`."""
    return _read_tensors(folder, _read_document(folder / DOCUMENT))[1]


def _read_tensors(folder: Path, document: Document) -> tuple[dict[str, Tensor], QuantizationPlan]:
    """Every tensor dense, by name, and the plan that they belong to."""
    try:
        tensors = unpacked(from_digits(read_safetensors(folder / WEIGHTS), document.digits), document.sparse)
        return tensors, restored(document.plan, tensors)
    except (KeyError, IndexError, RuntimeError) as error:
        raise InvalidModel(_LACKING) from error


def _read_document(path: Path) -> Document:
    try:
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict) or raw.get("format") != "modelpress" or raw.get("version") != VERSION:
            raise InvalidModel(f"{path.name} is not of a format that this version reads.")
        if raw.get("edits_version", 0) > edits.VERSION:
            raise InvalidModel(f"{path.name} was written by a newer version of modelpress, which knows more edits.")
        return Document.model_validate(raw)
    except (ValueError, TypeError, ValidationError, OSError) as error:
        raise InvalidModel(f"{path.name} cannot be read.") from error


def _rebuilt(document: Document, state: dict[str, Tensor]) -> nn.Module:
    module = build_hollow(document.architecture, in_channels=document.preprocessing.input_shape[0])
    apply_edits(module, document.edits)
    wanted = module.state_dict()
    if wanted.keys() != state.keys():
        raise InvalidModel(f"{WEIGHTS} does not hold the tensors of the network that {DOCUMENT} describes.")
    # Updated in place: the dictionary bears the versions of the modules, by which some of them read it.
    wanted.update(state)
    try:
        module.load_state_dict(wanted, assign=True)
    except RuntimeError as error:
        raise InvalidModel(f"{WEIGHTS} does not fit the network that {DOCUMENT} describes.") from error
    return module


def _state(document: Document, tensors: Mapping[str, Tensor], plan: QuantizationPlan) -> dict[str, Tensor]:
    own = {name: tensor for name, tensor in tensors.items() if "#" not in name}
    own |= {name: codes.dequantized() for name, codes in plan.weights.items()}
    return own | {name: own[first] for name, first in document.tied.items()}


def _tied(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names whose tensor another name has already brought."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    tied = {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and first.setdefault(place, name) != name:
            tied[name] = first[place]
    return tied


def _exceptions(state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each mask that zeros do not tell, 1 at the weights that they do not: most often kept ones coded as zero."""
    found = {name + _MASK: (state[name].cpu() != 0) ^ mask.cpu() for name, mask in masks.items()}
    return {name: wrong.to(torch.uint8) for name, wrong in found.items() if wrong.any()}


def _mask(weight: Tensor, tensors: Mapping[str, Tensor], name: str, layout: str) -> Tensor:
    there = weight != 0
    return there if layout == "zeros" else there ^ tensors[name + _MASK].bool().view(weight.shape)


def _probed(module: nn.Module, input_shape: tuple[int, int, int], *, seed: int) -> tuple[float, ...]:
    """The first logits for one seeded input."""
    training = module.training
    x = torch.randn(1, *input_shape, generator=torch.Generator().manual_seed(seed))
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        logits = module.eval()(x.to(device)).flatten()[:16].tolist()
    module.train(training)
    return tuple(logits)


def _check_probe(computing: nn.Module, candidate: Candidate, probe: Probe) -> None:
    found = torch.tensor(_probed(computing, candidate.input_shape, seed=probe.seed))
    kept = torch.tensor(probe.logits)
    # Rounding to codes turns the least difference into a step of one code, so integers get room for a few.
    tolerance = 0.05 if candidate.plan.rounds_activations else _TOLERANCE
    if found.shape != kept.shape or float((found - kept).abs().max()) > tolerance * max(1e-6, float(kept.abs().max())):
        raise InvalidModel("The rebuilt network answers otherwise than the one that was written.")
