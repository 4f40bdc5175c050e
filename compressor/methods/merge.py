"""Model soups (Wortsman et al. 2022, arXiv:2203.05482): one network with the average of several networks' weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.measure.accuracy import answers, loss
from compressor.training.normalization import Moments, moments, shift
from contract.failures import MissingData, UnfitModel
from contract.methods.merge import Merge

#: What the report calls the model that the job works on.
_OWN = "current"

State = Mapping[str, Tensor]


def check_ingredients(candidate: Candidate, params: Merge, context: Context) -> None:
    """See whether every model can be averaged with the candidate; raises `UnfitModel` as `apply` does."""
    own = candidate.module.state_dict()
    for name in params.ingredients:
        _fitting(name, candidate, own, params, context)


def apply(candidate: Candidate, params: Merge, context: Context) -> Candidate:
    """Average the models' weights into the candidate's; what is masked there stays zero.

    Raises `UnfitModel` naming the model, and the first tensor, that the average cannot be taken with.
    """
    images = None if context.calibration is None else context.calibration.take(params.samples, seed=context.seed)
    candidate.module.to(context.device)
    kitchen = _Kitchen(candidate, params, context, images, _copied(candidate.module.state_dict()))
    if params.soup == "greedy":
        parts = kitchen.greedy()
    else:
        parts = dict(zip(kitchen.names, params.weights or [1.0] * len(kitchen.names), strict=True))
    kitchen.fill(parts)
    context.record("weights", {name: part / sum(parts.values()) for name, part in parts.items()})
    return candidate


@dataclass(frozen=True)
class _Kitchen:
    """What soups are made of and judged by; the candidate's module is the pot."""

    candidate: Candidate
    params: Merge
    context: Context
    images: Images | None
    #: The candidate's own tensors, as they were.
    own: State
    #: What each model's normalizations are given by the images, once that is measured.
    seen: dict[str, dict[str, Moments]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Every model, the job's own first."""
        return (_OWN, *self.params.ingredients)

    def greedy(self) -> dict[str, float]:
        """Who is in the soup, each to the same part; raises `MissingData` where there are no images to judge by."""
        if self.images is None:
            raise MissingData("A greedy soup is judged on labelled images. Name a dataset under data.calibration.")
        alone = {name: self._loss({name: 1.0}, f"judging {name}") for name in self.names}
        first, *others = sorted(alone, key=alone.__getitem__)
        soup, best = {first: 1.0}, alone[first]
        for name in others:
            found = self._loss(soup | {name: 1.0}, f"tasting with {name}")
            if found <= best:
                soup, best = soup | {name: 1.0}, found
        self.context.record("loss_alone", dict(alone))
        self.context.record("loss", best)
        return soup

    def _loss(self, parts: Mapping[str, float], phase: str) -> float:
        assert self.images is not None
        self.fill(parts, phase)
        return loss(answers(self.candidate.module, self.images, device=self.context.device), self.images.labels)

    def fill(self, parts: Mapping[str, float], phase: str = "averaging") -> None:
        """Let the candidate be the average of these models, each to its part, with statistics that follow."""
        self.context.progress(0.0, phase)
        average = _average((self._state(name), part) for name, part in parts.items() if part)
        module = self.candidate.module
        before = self._mean_moments(parts)
        module.load_state_dict(average)
        self.candidate.apply_masks()
        if self.params.recalibrate and self.images is not None:
            shift(module, self.images, before, device=self.context.device)

    def _mean_moments(self, parts: Mapping[str, float]) -> dict[str, Moments]:
        """The mean of what the models' normalizations are given by the images; none where statistics stay the mean."""
        if not self.params.recalibrate or self.images is None:
            return {}
        total = sum(parts.values())
        mean: dict[str, Moments] = {}
        for name, part in parts.items():
            for layer, one in self._moments(name).items():
                old = mean.get(layer, Moments(torch.zeros_like(one.mean), torch.zeros_like(one.variance)))
                share = part / total
                mean[layer] = Moments(old.mean + share * one.mean, old.variance + share * one.variance)
        return mean

    def _moments(self, name: str) -> dict[str, Moments]:
        if name not in self.seen:
            assert self.images is not None
            self.candidate.module.load_state_dict(self._state(name))
            self.seen[name] = moments(self.candidate.module, self.images, device=self.context.device)
        return self.seen[name]

    def _state(self, name: str) -> State:
        return self.own if name == _OWN else _fitting(name, self.candidate, self.own, self.params, self.context)


def _copied(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


def _average(states: Iterator[tuple[State, float]]) -> dict[str, Tensor]:
    """The weighted mean of each tensor, summed in float64; what is no number with a fraction is the first one's."""
    first, part = next(states)
    total = part
    sums = {name: tensor.double() * part for name, tensor in first.items() if tensor.is_floating_point()}
    for state, part in states:
        total += part
        for name, running in sums.items():
            running.add_(state[name].to(running.device, torch.float64), alpha=part)
    means = {name: (running / total).to(first[name].dtype) for name, running in sums.items()}
    return dict(first) | means


def _fitting(name: str, candidate: Candidate, own: State, params: Merge, context: Context) -> State:
    """The tensors of an ingredient; raises `UnfitModel` where they are others than the candidate's own."""
    other = context.other(name)
    if misfit := _misfit(candidate, own, other):
        pointer = f"/ingredients/{params.ingredients.index(name)}"
        raise UnfitModel(f"{name} cannot be averaged with the job's model: {misfit}.", pointer=pointer)
    return other.module.state_dict()


def _misfit(candidate: Candidate, own: State, other: Candidate) -> str | None:
    """Why the two cannot be averaged, in words, with the first tensor that differs; None where they can."""
    theirs = other.module.state_dict()
    for name in dict.fromkeys((*own, *theirs)):
        ours, its = _shape(own, name), _shape(theirs, name)
        if ours != its:
            return f"{name} is {its} there and {ours} here"
    if candidate.classes and other.classes and candidate.classes != other.classes:
        return "its classes have other names, or stand in another order"
    return None


def _shape(state: State, name: str) -> str:
    return str(list(state[name].shape)) if name in state else "missing"
