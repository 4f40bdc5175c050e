"""Lighter layers of the same function in the place of those that are there."""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.classes import names_of
from compressor.context import Context
from compressor.data.images import Images
from compressor.fitting import Fit, fit
from compressor.inputs import in_order_of_run
from compressor.layers import matching
from compressor.lightening.activations import check_activations, functional, replace_activations
from compressor.lightening.chains import Way, chosen, meant, substitute, ways
from compressor.lightening.classifier import check_classifier, keeping
from compressor.lightening.dead import remove_dead
from compressor.lightening.folding import fold
from compressor.lightening.network import Network
from compressor.measure.counting import count_macs, count_parameters
from compressor.outcomes import Aim
from compressor.training.normalization import following
from contract.failures import UnfitModel
from contract.methods.lighten import Lighten
from contract.value import Json

_BATCH = 32


def preflight(candidate: Candidate, params: Lighten) -> None:
    """Raise where patterns match nothing, or where the network has none of the layers that shall be lightened."""
    leaves = [name for name, part in candidate.module.named_modules() if name and not any(part.children())]
    if not leaves:
        raise UnfitModel("The model has no layers that could be lightened.")
    matching(leaves, include=params.include, exclude=params.exclude)
    check_activations(candidate.module, params.activations)
    for way, patterns in ways(params, candidate.input_shape[0]).items():
        meant(candidate.module, way, patterns)
    if params.keep_classes:
        check_classifier(candidate, params.keep_classes)


def apply(candidate: Candidate, params: Lighten, context: Context) -> Candidate:
    """Put lighter layers in the place of those that are meant, then fold batch normalization, then let classes go.

    Raises `UnfitModel` where nothing of what is asked for can be done.
    """
    preflight(candidate, params)
    candidate.module.to(context.device)
    work = _Work(Network.of(candidate, params), context, copy.deepcopy(candidate.module))
    if params.remove_dead:
        context.record("removed", list(remove_dead(work.network)))
    with following(candidate.module, work.images_of_statistics, seed=context.seed, device=context.device):
        if params.activations:
            work.replace_activations()
        work.replace_convolutions()
    if params.fold_batch_norm:
        context.record("folded", dict(fold(work.network)))
    made = replace(candidate, edits=(*candidate.edits, *work.network.edits))
    if params.keep_classes:
        made = keeping(made, params.keep_classes)
        context.record("classes", list(names_of(made)))
    work.tell()
    return made


@dataclass(frozen=True)
class _Work:
    """One step underway."""

    network: Network
    context: Context
    #: The network as it was.
    original: nn.Module

    @property
    def images_of_statistics(self) -> Images | None:
        """The images by which statistics follow; none where all that is asked for is exact."""
        params = self.network.params
        lossy = params.separable or params.small_kernels or params.activations
        return self.context.calibration if lossy and params.recalibrate else None

    def replace_activations(self) -> None:
        """Replace the modules, and tell what forward methods compute themselves."""
        asked, found = self.network.params.activations, replace_activations(self.network)
        self.context.record("activations", {name: [old, asked[old]] for name, old in found.items()})
        by_forward = functional(self.network)
        if by_forward:
            self.context.record("functional_activations", dict(by_forward))
            told = ", ".join(f"{name} ({count})" for name, count in by_forward.items())
            self.context.notice(
                "layers_left_alone", f"Forward methods compute {told} themselves, where no module can be replaced."
            )

    def replace_convolutions(self) -> None:
        """Put chains in the place of convolutions, in the order in which they run, each fitted behind those before."""
        found = chosen(self.network, self.network.input_shape[0])
        order = in_order_of_run(self.network.module, found, self.network.input_shape)
        fits: dict[str, Fit | None] = {}
        for number, name in enumerate(order):
            self.context.progress(number / len(order), f"lightening layer {number + 1} of {len(order)}")
            last, layer = substitute(self.network, name, found[name]), self.original.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            aim = Aim(self.original, layer)
            fits[name] = fit(self.network.module, last, aim, self._batches(), seed=self.context.seed)
        if found:
            self.context.record("layers", self._costs(found, fits))

    def _batches(self) -> Iterator[Tensor]:
        """Calibration images, as far as there are any."""
        if self.context.calibration is not None:
            images = self.context.calibration.take(self.network.params.samples, seed=self.context.seed)
            yield from (batch.x for batch in images.batches(_BATCH, device=self.context.device))

    def _costs(self, found: Mapping[str, Way], fits: Mapping[str, Fit | None]) -> dict[str, Json]:
        """By layer: its MACs and parameters before and after, and the error of its outputs before and after the fit."""
        networks = (self.original, self.network.module)
        macs = [count_macs(network, self.network.input_shape).by_module for network in networks]
        return {
            name: {
                "became": way.name,
                "macs": [by_name.get(name, 0) for by_name in macs],
                "parameters": [count_parameters(network.get_submodule(name)) for network in networks],
                "output_error": [round(error, 6) for error in (fit.before, fit.after)] if fit else None,
            }
            for name, way in found.items()
            for fit in [fits[name]]
        }

    def tell(self) -> None:
        """What is left of the whole, and which layers stay; raises `UnfitModel` where all of them do."""
        if not (self.network.edits or self.network.params.keep_classes):
            raise UnfitModel(self._nothing())
        shape, record = self.network.input_shape, self.context.record
        before, after = (count_macs(network, shape).total for network in (self.original, self.network.module))
        record("macs_left", after / before if before else 1.0)
        record("parameters_left", count_parameters(self.network.module) / count_parameters(self.original))
        if self.network.left:
            record("layers_left_alone", dict(self.network.left))
            self.context.notice("layers_left_alone", f"What stays as it is: {self._left()}.")

    def _nothing(self) -> str:
        if self.network.left:
            return f"Nothing becomes lighter: {self._left()}."
        kinds = Counter(type(part).__name__ for part in self.original.modules() if not any(part.children()))
        there = _listed(f"{kind} ({count})" for kind, count in kinds.most_common())
        return f"Nothing of what is asked for is in the parts of the model that the patterns mean; it has {there}."

    def _left(self) -> str:
        return _listed(f"{name} ({reason})" for name, reason in self.network.left.items())


def _listed(told: Iterable[str]) -> str:
    first = list(islice(told, 5))
    return ", ".join(first[:4]) + (" and others" if len(first) > 4 else "")
