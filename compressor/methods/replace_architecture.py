"""A light architecture in the model's place, to be taught by the steps that follow."""

from dataclasses import asdict

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.models.advice import Advice, Use, advise
from compressor.models.inheritance import inherit
from compressor.models.replacement import replacement
from compressor.models.stems import smallest_map
from contract.methods.replace import ReplaceArchitecture
from contract.model import Architecture


def preflight(candidate: Candidate, params: ReplaceArchitecture) -> None:
    """Choose the architecture and build it once, to see whether it can be built for this model."""
    replacement(candidate, _architecture(params, _advice(candidate, params)), seed=0, stem=params.stem)


def apply(candidate: Candidate, params: ReplaceArchitecture, context: Context) -> Candidate:
    """Build the architecture with as many classes as the model has, with the model's weights where they fit.

    Raises what `replacement` raises, and `NothingFits` where no architecture is as cheap as the budget.
    """
    context.progress(0.0, "choosing an architecture")
    advice = _advice(candidate, params)
    made = replacement(candidate, _architecture(params, advice), seed=context.seed, stem=params.stem)
    if advice is not None:
        _tell(advice, context)
    context.record("architecture", made.architecture.name)
    context.record("stem", [edit.module for edit in made.edits])
    context.record("smallest_map", smallest_map(made.module, made.input_shape))
    if params.initialize == "original":
        context.record("taken_from_original", asdict(inherit(made.module, candidate.module)))
    made.module.to(context.device)
    return made


def _advice(candidate: Candidate, params: ReplaceArchitecture) -> Advice | None:
    if params.budget is None:
        return None
    return advise(params.budget, Use(candidate.input_shape, candidate.num_classes, params.stem))


def _architecture(params: ReplaceArchitecture, advice: Advice | None) -> Architecture:
    if advice is not None:
        return Architecture(name=advice.chosen.name)
    assert params.architecture is not None
    return params.architecture


def _tell(advice: Advice, context: Context) -> None:
    """Why this one: its figures, those of the next ones that fit, and what is more accurate but out of the question."""
    context.record("why", advice.why)
    context.record("chosen", asdict(advice.chosen))
    context.record("runners_up", [asdict(offer) for offer in advice.runners_up])
    context.record("too_costly", list(advice.too_costly))
    context.record("not_for_the_input", list(advice.not_for_the_input))
