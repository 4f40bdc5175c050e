"""Low-rank factorization: a layer becomes a few cheaper ones (Denton et al. 2014, arXiv:1404.0736)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.curvature.moments import Sums, gathered
from compressor.curvature.stakes import stakes
from compressor.data.images import Images
from compressor.factorization.attentions import close_attentions, open_attentions
from compressor.factorization.building import Factors, factors, put
from compressor.factorization.costs import Cost, cost
from compressor.factorization.layer import Known
from compressor.factorization.proposals import Proposal, of_all_ranks, of_rank
from compressor.factorization.ranks import Chosen, with_energy, within
from compressor.factorization.reconstruction import reconstruct
from compressor.factorization.survey import Survey, survey
from compressor.layers import check_each, first_meant, matching, weighted_modules
from compressor.measure.counting import count_macs, count_parameters
from compressor.training.normalization import recalibrate
from contract.failures import UnfitModel
from contract.methods.factorize import Factorize
from contract.report import FactorizedLayer

_BATCH = 32
_DEARER = "no rank that it may have makes it cheaper"


def preflight(candidate: Candidate, params: Factorize) -> None:
    """See whether the patterns match."""
    _names(candidate, params)
    check_each(params.rank_by_layer, list(weighted_modules(candidate.module)), pointer="/rank_by_layer")


def _names(candidate: Candidate, params: Factorize) -> list[str]:
    return matching(list(weighted_modules(candidate.module)), include=params.include, exclude=params.exclude)


def apply(candidate: Candidate, params: Factorize, context: Context) -> Candidate:
    """Put factors in the place of every matching layer for which that pays.

    Raises `UnfitModel` where there is no such layer, or where a target is out of reach.
    """
    preflight(candidate, params)
    candidate.module.to(context.device)
    attentions = open_attentions(candidate, _names(candidate, params))
    work = _Work.of(candidate, params, context)
    proposals = work.proposals()
    chosen = work.chosen(proposals) if proposals else {}
    if not chosen:
        raise UnfitModel(work.nothing(proposals))
    made = work.factors(chosen)
    original = deepcopy(candidate.module) if params.data_aware and params.reconstruct else None
    opened = close_attentions(candidate.module, attentions, list(chosen))
    replaced = put(candidate.module, chosen, made)
    if context.calibration is not None:
        work.mend(candidate, original, list(chosen), context.calibration)
    after = replace(candidate, edits=(*candidate.edits, *opened, *replaced))
    work.tell(after, chosen, made, proposals)
    return after


@dataclass(frozen=True)
class _Work:
    """One step underway."""

    params: Factorize
    context: Context
    survey: Survey
    #: What the layers see, where images are looked at.
    seen: Mapping[str, Sums]
    #: What errors of layers cost, where that is looked at too.
    stakes: Mapping[str, Tensor]
    #: Of each layer, and of the network.
    own: Mapping[str, Cost]
    whole: Cost

    @classmethod
    def of(cls, candidate: Candidate, params: Factorize, context: Context) -> "_Work":
        found = survey(candidate, _names(candidate, params))
        own = {name: cost([layer.part], layer.shapes) for name, layer in found.layers.items()}
        seen = _seen(candidate, found, params, context)
        return cls(params, context, found, seen, _stakes(candidate, found, params, context), own, _cost_of(candidate))

    def proposals(self) -> dict[str, tuple[Proposal, ...]]:
        """What can be made of each layer, for layers for which anything pays."""
        found = {}
        for number, name in enumerate(self.survey.layers):
            self.context.progress(0.2 + 0.3 * number / len(self.own), f"ranks of layer {number + 1} of {len(self.own)}")
            found[name] = self._proposed(name)
        return {name: each for name, each in found.items() if each}

    def _proposed(self, name: str) -> tuple[Proposal, ...]:
        layer, known, params = self.survey.layers[name], self._known(name), self.params
        if params.rank is None:
            return of_all_ranks(layer, known, params.scheme, params.round_to)
        rank = first_meant(name, params.rank_by_layer) or params.rank
        return of_rank(layer, known, params.scheme, params.round_to, rank=rank)

    def _known(self, name: str) -> Known:
        seen = self.seen.get(name)
        moments = None if seen is None else seen.moments()
        return Known.of(self.survey.layers[name].module, moments, self.stakes.get(name))

    def chosen(self, proposals: Mapping[str, tuple[Proposal, ...]]) -> Chosen:
        """The form that each layer gets."""
        if self.params.macs_ratio is not None:
            return self._within(proposals, lambda c: c.macs, self.params.macs_ratio, "macs_ratio")
        if self.params.parameters_ratio is not None:
            return self._within(proposals, lambda c: c.parameters, self.params.parameters_ratio, "parameters_ratio")
        if self.params.energy is not None:
            return with_energy(proposals, self.params.energy)
        return {name: only for name, (only,) in proposals.items()}

    def _within(
        self, proposals: Mapping[str, tuple[Proposal, ...]], measure: Callable[[Cost], int], ratio: float, name: str
    ) -> Chosen:
        rest = measure(self.whole) - sum(measure(self.own[layer]) for layer in proposals)
        found = within(proposals, self.own, measure=measure, budget=ratio * measure(self.whole) - rest)
        if found is None:
            least = rest + sum(min(measure(p.cost) for p in each) for each in proposals.values())
            raise UnfitModel(
                f"With the lowest ranks that these layers may have, {least / measure(self.whole):.1%} is left.",
                pointer=f"/{name}",
            )
        return found

    def nothing(self, proposals: Mapping[str, tuple[Proposal, ...]]) -> str:
        """Why no layer is factorized."""
        name, reason = next(iter(self._left({}, proposals).items()))
        return f"No layer can be factorized: {name}, because {reason}."

    def factors(self, chosen: Chosen) -> dict[str, Factors]:
        """What stands in the place of each layer."""
        made = {}
        for number, (name, proposal) in enumerate(chosen.items()):
            self.context.progress(0.5 + 0.1 * number / len(chosen), f"factors of layer {number + 1} of {len(chosen)}")
            made[name] = factors(self.survey.layers[name].module, self._known(name), proposal)
        return made

    def mend(self, candidate: Candidate, original: nn.Module | None, names: Sequence[str], images: Images) -> None:
        """Let factors make up for what those before them have lost, or else batch normalization for all of them."""
        # Layers that give what they gave have no use for other statistics.
        whole = original is not None and self._reconstruct(candidate, original, names, images)
        if self.params.recalibrate and not whole:
            recalibrate(candidate.module, images, device=self.context.device)

    def _reconstruct(self, candidate: Candidate, original: nn.Module, names: Sequence[str], images: Images) -> bool:
        """Whether every layer was fitted."""
        context = self.context
        found = reconstruct(
            candidate.module,
            original,
            names,
            lambda: _batches(images, self.params, context),
            several=[name for name in names if len(self.survey.layers[name].shapes) > 1],
            input_shape=candidate.input_shape,
            seed=context.seed,
            tell=lambda done: context.progress(0.6 + 0.4 * done, "fitting factors to what layers gave"),
        )
        found.tell(context)
        return not found.left

    def _left(self, chosen: Chosen, proposals: Mapping[str, tuple[Proposal, ...]]) -> dict[str, str]:
        """Why each other layer is what it was."""
        whole = {
            name: "all of it is needed for what shall be kept" if name in proposals else _DEARER
            for name in self.survey.layers
            if name not in chosen
        }
        return {**self.survey.left, **whole}

    def tell(
        self,
        after: Candidate,
        chosen: Chosen,
        made: Mapping[str, Factors],
        proposals: Mapping[str, tuple[Proposal, ...]],
    ) -> None:
        """What became of each layer, and what is left of the network."""
        layers = [self._told(name, proposal, made[name].kept) for name, proposal in chosen.items()]
        self.context.record("factorized", [layer.model_dump(mode="json") for layer in layers])
        self.context.record("layers_left_alone", {**self._left(chosen, proposals)})
        left = _cost_of(after)
        self.context.record("macs_left", left.macs / self.whole.macs)
        self.context.record("parameters_left", left.parameters / self.whole.parameters)

    def _told(self, name: str, proposal: Proposal, kept: float) -> FactorizedLayer:
        before, after = self.own[name], proposal.cost
        return FactorizedLayer(
            name=name,
            scheme=proposal.scheme,
            ranks=proposal.ranks,
            full_ranks=proposal.full_ranks,
            kept=round(kept, 6),
            parameters=(before.parameters, after.parameters),
            macs=(before.macs, after.macs),
        )


def _seen(candidate: Candidate, found: Survey, params: Factorize, context: Context) -> Mapping[str, Sums]:
    if not params.data_aware or context.calibration is None:
        return {}
    context.progress(0.0, "looking at what layers see")
    batches = _batches(context.calibration, params, context)
    return gathered(candidate.module, found.modules, batches, seed=context.seed)


def _stakes(candidate: Candidate, found: Survey, params: Factorize, context: Context) -> Mapping[str, Tensor]:
    if not (params.data_aware and params.loss_aware) or context.calibration is None:
        return {}
    context.progress(0.1, "looking at what errors cost")
    batches = _batches(context.calibration, params, context)
    return stakes(candidate.module, found.modules, batches, seed=context.seed)


def _batches(images: Images, params: Factorize, context: Context) -> Iterator[Tensor]:
    taken = images.take(params.samples, seed=context.seed)
    return (batch.x for batch in taken.batches(_BATCH, device=context.device))


def _cost_of(candidate: Candidate) -> Cost:
    return Cost(count_macs(candidate.module, candidate.input_shape).total, count_parameters(candidate.module))
