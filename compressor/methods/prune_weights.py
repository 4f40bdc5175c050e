"""Unstructured pruning: the least important weights become zero (Han et al. 2015, arXiv:1506.02626)."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.inputs import ran, sees, sees_all
from compressor.layers import check_each, matching_weights, weighted_modules
from compressor.measure.semi_structured import semi_structured
from compressor.sparsity.amounts import whole
from compressor.sparsity.cutting import Cut, choice, ranked
from compressor.sparsity.histogram import Tally, histogram
from compressor.sparsity.importance import IMPORTANCES, Look
from compressor.sparsity.schedules import CHOICES, OPERATIONS, Growth, gradual, iterative
from compressor.sparsity.surgery import operate
from compressor.training.normalization import following
from compressor.training.recovery import recover
from compressor.training.splitting import split_of
from compressor.training.state import Run
from contract.failures import MissingData, UnfitModel
from contract.methods import Role
from contract.methods.prune import PruneWeights
from contract.value import Json

#: Importances that need what a layer sees, so only layers whose inputs can be unfolded.
_SEEING = frozenset({"wanda", "obs"})
#: Images in the batch on which a GPU's kernels are timed.
_BATCH = 32


@dataclass(frozen=True)
class _Weights:
    """The weights that a step means: those that fit it, and the names of those that do not."""

    weights: Mapping[str, nn.Parameter]
    #: By parameter name, as all that follows.
    layers: Mapping[str, nn.Module]
    modules: Mapping[str, str]
    unfit: tuple[str, ...]


def preflight(candidate: Candidate, params: PruneWeights) -> None:
    """See whether the patterns match, whether layers fit, and whether there are as many weights as shall be zero."""
    chosen = _chosen(candidate, params)
    check_each(params.amount_by_layer, list(weighted_modules(candidate.module)), pointer="/amount_by_layer")
    Cut.of(params, chosen.weights, chosen.modules).check(chosen.weights)


def apply(candidate: Candidate, params: PruneWeights, context: Context) -> Candidate:
    """Zero the asked-for part of the matching weights, those already masked among it, and mask them."""
    preflight(candidate, params)
    candidate.module.to(context.device)
    work = _Work(candidate, params, context, _chosen(candidate, params))
    before = Tally.of(work.chosen.weights)
    with following(candidate.module, _of_statistics(params, context), seed=context.seed, device=context.device):
        masks = work.masks()
        pruned = replace(candidate, masks={**candidate.masks, **_merged(masks, candidate.masks)})
        pruned.apply_masks()
    _record(pruned, work, before, tuple(masks))
    if params.n_of_m == (2, 4) and context.device.type == "cuda":
        _time_kernels(pruned, context)
    return pruned


def _of_statistics(params: PruneWeights, context: Context) -> Images | None:
    # Behind surgery, layers are fitted to what reaches them by the statistics as they are.
    moved = params.schedule == "one_shot" and params.importance != "obs"
    return context.calibration if params.recalibrate and moved else None


def _time_kernels(pruned: Candidate, context: Context) -> None:
    x = torch.randn(_BATCH, *pruned.input_shape, device=context.device)
    found = semi_structured(pruned.module, pruned.masks, x)
    context.record("semi_structured", None if found is None else found.told())


def _chosen(candidate: Candidate, params: PruneWeights) -> _Weights:
    """The weights to prune; one that two layers share is there once. Raises `UnfitModel` where some must fit."""
    module = candidate.module
    layers = weighted_modules(module)
    own = dict(module.named_parameters())
    named = matching_weights(module, include=params.include, exclude=params.exclude)
    # Its filters are classes, which nobody asks to lose.
    classifier = _classifier(candidate) if params.pattern == "filters" else None
    fitting = {
        name: layer for name, layer in named.items() if layer != classifier and _fits(own[name], layers[layer], params)
    }
    unfit = tuple(named[name] for name in named if name not in fitting)
    refused = [layer for layer in unfit if layer != classifier]
    if not fitting or (params.on_unfit == "fail" and refused):
        first = (*refused, *unfit)[0]
        raise UnfitModel(f"{first} does not fit {_wanted(params)}.", layer=first)
    return _Weights(
        {name: own[name] for name in fitting}, {name: layers[layer] for name, layer in fitting.items()}, fitting, unfit
    )


def _classifier(candidate: Candidate) -> str | None:
    """The last layer that is run, where it has one output for each class."""
    layers = weighted_modules(candidate.module)
    last = next(reversed(ran(candidate.module, layers, candidate.input_shape)), None)
    given = (getattr(layers[last], name, None) for name in ("out_features", "out_channels")) if last else ()
    return last if candidate.num_classes in given else None


def _fits(weight: Tensor, layer: nn.Module, params: PruneWeights) -> bool:
    if params.importance in _SEEING and not sees(layer):
        return False
    if params.importance == "obs" and not sees_all(weight[0].numel()):
        return False
    return Cut(params, {}, {}).pattern.fits(weight)


def _wanted(params: PruneWeights) -> str:
    if params.importance in _SEEING:
        return f"importance {params.importance} with pattern {params.pattern}"
    return f"pattern {params.pattern}"


@dataclass(frozen=True)
class _Work:
    """One step underway."""

    candidate: Candidate
    params: PruneWeights
    context: Context
    chosen: _Weights

    @property
    def cut(self) -> Cut:
        """What shall become zero."""
        return Cut.of(self.params, self.chosen.weights, self.chosen.modules)

    def masks(self) -> dict[str, Tensor]:
        """True where a weight stays, by parameter name, as the step leaves them."""
        if self.params.schedule != "one_shot":
            return self._during_training()
        if self.params.importance == "obs":
            return self._by_surgery()
        scores = IMPORTANCES[self.params.importance](self._look(self.candidate.module))
        return self._kept(scores, whole, self.candidate.masks)

    def _look(self, module: nn.Module) -> Look:
        return Look(
            module,
            {name: module.get_parameter(name) for name in self.chosen.weights},
            self.chosen.layers,
            torch.Generator().manual_seed(self.context.seed),
            self._images(),
        )

    def _images(self) -> Images | None:
        if Role.CALIBRATION not in self.params.roles:
            return None
        if self.context.calibration is None:
            raise MissingData(
                f"Importance {self.params.importance} needs images. Name a dataset under data.calibration."
            )
        return self.context.calibration.take(self.params.samples, seed=self.context.seed)

    def _kept(
        self, scores: Mapping[str, Tensor], now: Callable[[float], float], earlier: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        if now(1.0) == 1.0:
            # All of an amount is cut by this choice, so it is the last.
            self._tell({name: choice(score, earlier.get(name)) for name, score in scores.items()})
        return self.cut.kept({name: ranked(score, earlier.get(name)) for name, score in scores.items()}, now=now)

    def _tell(self, choices: Mapping[str, list[float]]) -> None:
        """What there was to choose from."""
        found: dict[str, Json] = {self.chosen.modules[name]: list(one) for name, one in choices.items() if one}
        self.context.record("importance", found)

    def _by_surgery(self) -> dict[str, Tensor]:
        return self._operated(self.candidate.module, whole, self.candidate.masks, self.context.progress)

    def _operated(
        self,
        module: nn.Module,
        now: Callable[[float], float],
        earlier: Mapping[str, Tensor],
        tell: Callable[[float, str], None],
    ) -> dict[str, Tensor]:
        found = operate(self._look(module), self.cut, earlier, tell=tell, now=now)
        if now(1.0) == 1.0:
            self._tell({name: one.importance for name, one in found.items()})
            errors: dict[str, Json] = {self.chosen.modules[name]: round(one.error, 6) for name, one in found.items()}
            self.context.record("output_error", errors)
        return {name: one.kept for name, one in found.items()}

    def _during_training(self) -> dict[str, Tensor]:
        recipe, rounds = self.params.recipe, self.params.rounds
        assert recipe is not None
        per_epoch = len(split_of(recipe, self.context).learn.batch_sizes(recipe.batch_size))
        updates = recipe.epochs * per_epoch
        if self.params.schedule == "gradual":
            choices = OPERATIONS if self.params.importance == "obs" else CHOICES
            by = self.params.pruned_by
            growth, cycles = gradual(self._choose, updates=updates, pruned_by=by, choices=choices), 1
        else:
            growth, cycles = self._in_rounds(updates, rounds), rounds
        run = recover(
            self.candidate, recipe, self.context,
            after_update=growth.after_update, settled=growth.settled, cycles=cycles,
        )  # fmt: skip
        # Layers that the network does not run have no mask where an importance has nothing to say of them.
        return {name: run.masks[name] for name in self.chosen.weights if name in run.masks}

    def _in_rounds(self, updates: int, rounds: int) -> Growth:
        original = copy.deepcopy(self.candidate.module.state_dict()) if self.params.rewind else None
        return iterative(self._choose, updates=updates, rounds=rounds, original=original)

    def _choose(self, run: Run, now: Callable[[float], float]) -> Mapping[str, Tensor]:
        # What is cut stays cut: a mask only grows.
        if self.params.importance == "obs":
            return self._operate_on(run, now)
        return self._kept(IMPORTANCES[self.params.importance](self._look(run.module)), now, run.masks)

    def _operate_on(self, run: Run, now: Callable[[float], float]) -> Mapping[str, Tensor]:
        # How far the training is, it goes on telling itself.
        kept = self._operated(run.module, now, run.masks, lambda *_: None)
        if run.average is not None:
            # What weights were before others made up for them is no part of what they are now.
            run.average.restart()
        return kept


def _merged(masks: Mapping[str, Tensor], earlier: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an earlier step has masked stays masked, even where it was more than what is asked for now; on the CPU."""
    return {name: mask.cpu() & earlier[name].cpu() if name in earlier else mask.cpu() for name, mask in masks.items()}


def _record(pruned: Candidate, work: _Work, before: Tally, names: tuple[str, ...]) -> None:
    context, modules = work.context, work.chosen.modules
    masks = {name: pruned.masks[name] for name in names}
    total = sum(mask.numel() for mask in masks.values())
    context.record("layers", [modules[name] for name in names])
    context.record("zeros", 1 - sum(int(mask.sum()) for mask in masks.values()) / total)
    after = {name: pruned.module.get_parameter(name) for name in names}
    context.record("histogram", histogram(before, after, threshold=work.params.threshold))
    left = [*work.chosen.unfit, *(modules[name] for name in modules if name not in masks)]
    if left:
        context.record("layers_left_alone", list(left))
        context.notice("layers_left_alone", f"{', '.join(left[:4])} do not fit {_wanted(work.params)}.")
    gone = [modules[name] for name, mask in masks.items() if not mask.any()]
    if gone:
        told = f"Every weight of {', '.join(gone[:4])} is zero: whatever comes in, the same goes out."
        context.notice("layers_all_zero", told)
    if not names:
        raise UnfitModel(f"No layer fits {_wanted(work.params)}.")
