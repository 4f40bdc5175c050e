"""A network that tells fewer classes apart: the rows of its last layer that give the others go."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.classes import names_of, places_of
from compressor.inputs import ran
from compressor.measure.accuracy import answers_to
from compressor.models.edits import Narrow, apply_edits
from contract.failures import UnfitModel

_POINTER = "/keep_classes"
#: Of the largest logit: how far the answers that stay may move, since fewer rows are added up in another order.
_TOLERANCE = 1e-4


def check_classifier(candidate: Candidate, wanted: Sequence[str | int]) -> None:
    """Try on a copy whether the classes that stay are answered as before.

    Raises `UnfitModel` where they are not, as behind a softmax, and what `keeping` raises.
    """
    places = list(places_of(wanted, candidate))
    fewer = keeping(candidate.copied(), wanted)
    before, after = _answers(candidate, candidate.module)[:, places], _answers(candidate, fewer.module)
    if after.shape != before.shape or not torch.allclose(after, before, atol=_TOLERANCE * float(before.abs().max())):
        raise UnfitModel(
            f"Behind {fewer.edits[-1].module} the model mixes the classes, so that those that stay would be answered "
            "otherwise than before.",
            pointer=_POINTER,
        )


def _answers(candidate: Candidate, module: nn.Module) -> Tensor:
    noise = torch.randn(2, *candidate.input_shape, generator=torch.Generator().manual_seed(0))
    try:
        return answers_to([(noise,)], module, device=next(module.parameters()).device)
    except (RuntimeError, ValueError, IndexError) as error:
        raise UnfitModel("Behind its last layer the model needs all of the classes.", pointer=_POINTER) from error


@torch.no_grad()
def keeping(candidate: Candidate, wanted: Sequence[str | int]) -> Candidate:
    """The candidate, changed in place, with these classes alone, in this order.

    Raises `ClassesMismatch` where it has no such classes, and `UnfitModel` where its last layer is none that has a row
    for each class, or has codes from an earlier step.
    """
    places, name = places_of(wanted, candidate), _classifier(candidate)
    layer = candidate.module.get_submodule(name)
    rows = torch.tensor(places)
    left = {own: tensor[rows.to(tensor.device)] for own, tensor in layer.named_parameters(recurse=False)}
    size = "out_features" if isinstance(layer, nn.Linear) else "out_channels"
    edit = Narrow(module=name or ".", sizes={size: len(places)}, shapes={own: (*t.shape,) for own, t in left.items()})
    apply_edits(candidate.module, (edit,))
    for own, tensor in left.items():
        layer.get_parameter(own).copy_(tensor)
    owned = {f"{name}.{own}" for own in left}
    return replace(
        candidate,
        num_classes=len(places),
        classes=tuple(names_of(candidate)[place] for place in places),
        edits=(*candidate.edits, edit),
        masks={at: mask[rows.to(mask.device)] if at in owned else mask for at, mask in candidate.masks.items()},
    )


def _classifier(candidate: Candidate) -> str:
    """Name of the layer that gives one output for each class: the last that is run."""
    layers = {name: part for name, part in candidate.module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    seen = ran(candidate.module, layers, candidate.input_shape) if layers else []
    if not seen:
        raise UnfitModel("The model has no last layer whose rows could go.", pointer=_POINTER)
    layer = layers[last := seen[-1]]
    given = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if given != candidate.num_classes or getattr(layer, "groups", 1) > 1:
        raise UnfitModel(
            f"The last layer, {last}, has {given} outputs, and not a row of its own for each of the "
            f"{candidate.num_classes} classes.",
            pointer=_POINTER,
            layer=last,
        )
    if f"{last}.weight" in candidate.plan.weights:
        raise UnfitModel(f"{last} has its codes from an earlier step.", pointer=_POINTER, layer=last)
    return last
