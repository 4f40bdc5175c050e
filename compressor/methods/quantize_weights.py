"""Weights in 1 to 8 bits, activations in float32: a smaller file, not a faster network."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor, nn

from compressor.allotment import Option, allotted
from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.inputs import ends, first_not_finite, in_order_of_run, not_finite
from compressor.layers import check_each, first_meant, matching_weights, weighted_modules
from compressor.measure.accuracy import answers
from compressor.measure.fidelity import divergence, sqnr_db
from compressor.quantization.coding import Coded, Coding
from compressor.quantization.fidelity import fidelity
from compressor.quantization.fitting import Form
from compressor.quantization.levels import LevelCodes
from compressor.training.normalization import following
from compressor.training.recovery import recover
from contract.failures import AlreadyQuantized, MissingData, NothingToQuantize, UnfitModel
from contract.methods import Recovery
from contract.methods.low_bit import ENDS, QuantizeWeights, Scheme, usual

#: Numbers of bits among which a target is met.
_CHOICES = (1, 2, 3, 4, 5, 6, 8)
_BATCH = 32


def preflight(candidate: Candidate, params: QuantizeWeights) -> None:
    """Raise where no layer can be meant, or where an earlier step has given one its codes."""
    _layers(candidate, params)
    check_each(params.bits_by_layer, list(weighted_modules(candidate.module)), pointer="/bits_by_layer")


def _layers(candidate: Candidate, params: QuantizeWeights) -> dict[str, str]:
    """The modules that the params mean, by the names of their weights; one that two layers share is there once."""
    if not weighted_modules(candidate.module):
        raise NothingToQuantize("quantize_weights finds no layer with a matrix of weights.")
    named = matching_weights(candidate.module, include=params.include, exclude=params.exclude)
    taken = next((layer for name, layer in named.items() if name in candidate.plan.weights), None)
    if taken is not None:
        raise AlreadyQuantized(f"{taken} has its codes from an earlier step.", layer=taken)
    return named


def apply(candidate: Candidate, params: QuantizeWeights, context: Context) -> Candidate:
    """Give the matching weights their codes, and let them be what the codes mean."""
    work = _Work(candidate, params, context, _layers(candidate, params))
    candidate.module.to(context.device)
    before = {name: work.weight(name).detach().clone() for name in work.names}
    answered = work.answers()
    with following(candidate.module, _of_statistics(params, context), seed=context.seed, device=context.device):
        coded = work.coding.apply(work.forms(answered), context.progress)
    work.tell_of_the_rest(coded)
    codes = coded.codes
    if params.training:
        codes = work.trained(codes, before, params.training)
    work.tell(codes, before, answered)
    return replace(candidate, plan=candidate.plan.with_weights(codes))


def _of_statistics(params: QuantizeWeights, context: Context) -> Images | None:
    # GPTQ has fitted layers to what reaches them by the statistics as they are.
    moved = params.rounding != "gptq" and not params.training
    return context.calibration if params.recalibrate and moved else None


@dataclass(frozen=True)
class _Work:
    """One step underway."""

    candidate: Candidate
    params: QuantizeWeights
    context: Context
    #: Module names by parameter name.
    names: Mapping[str, str]

    def weight(self, name: str) -> nn.Parameter:
        return self.candidate.module.get_parameter(name)

    @property
    def coding(self) -> Coding:
        parts = weighted_modules(self.candidate.module)
        layers = {name: parts[layer] for name, layer in self.names.items()}
        batches = self._batches if self.params.rounding == "gptq" else None
        return Coding(self.candidate.module, layers, self.candidate.masks, batches)

    def _images(self) -> Images:
        if self.context.calibration is None:
            raise MissingData("quantize_weights looks at images here. Name a dataset under data.calibration.")
        return self.context.calibration.take(self.params.samples, seed=self.context.seed)

    def answers(self) -> Tensor | None:
        """What the network says to calibration images, if there are any; raises `UnfitModel` where it is not finite."""
        if self.context.calibration is None:
            return None
        found = answers(self.candidate.module, self._images(), device=self.context.device)
        if not found.isfinite().all():
            module = self.candidate.module
            layer = first_not_finite(module, weighted_modules(module), self._batches())
            raise not_finite(layer or "the output", layer=layer)
        return found

    def _batches(self) -> Iterator[Tensor]:
        return (batch.x for batch in self._images().batches(_BATCH, device=self.context.device))

    def forms(self, answered: Tensor | None) -> dict[str, Form]:
        """How each weight shall be coded, in the order in which the network runs them; `answered` is what it says."""
        ran = in_order_of_run(self.candidate.module, self.names.values(), self.candidate.input_shape)
        ordered = sorted(self.names, key=lambda name: ran.index(self.names[name]))
        fixed = self._fixed()
        free = [name for name in ordered if name not in fixed]
        target = self.params.target_bits
        if target is None:
            found = dict.fromkeys(free, self.params.bits)
        else:
            found = self._allotted(target, fixed, self._options(free, answered))
        return {name: self._form(fixed.get(name) or found[name]) for name in ordered}

    def _fixed(self) -> dict[str, int]:
        """Bits of those weights for which the params name them, and of the network's first and last layer."""
        outer = () if self.params.all_layers else ends(self.candidate.module, self.candidate.input_shape)
        own = {name: first_meant(layer, self.params.bits_by_layer) for name, layer in self.names.items()}
        at_ends = {name: ENDS for name, layer in self.names.items() if layer in outer}
        return at_ends | {name: bits for name, bits in own.items() if bits is not None}

    def _form(self, bits: int) -> Form:
        params = self.params
        scheme = params.scheme_at(bits) if params.target_bits is None else usual(bits)
        group = None if scheme is Scheme.CODEBOOK else params.group_size
        return Form(scheme, bits, group, clipped=params.clipping == "least_squares")

    def _allotted(
        self, target: float, fixed: Mapping[str, int], options: Mapping[str, tuple[Option[int], ...]]
    ) -> dict[str, int]:
        """Bits of the weights that have options with which all together have the target on the average."""
        coding, count = self.coding, sum(self.weight(name).numel() for name in self.names)
        spent = sum(coding.encoded(name, self._form(bits)).size_bits for name, bits in fixed.items())
        chosen = allotted(options, target * count - spent)
        if chosen is None:
            least = (spent + sum(min(o.size for o in each) for each in options.values())) / count
            raise UnfitModel(
                f"These layers have at least {least:.2f} bits, scales and codebooks counted.", pointer="/target_bits"
            )
        return {name: option.form for name, option in chosen.items()}

    def _options(self, names: list[str], answered: Tensor | None) -> dict[str, tuple[Option[int], ...]]:
        """What each number of bits takes, and what it does to the answers where one weight alone has it."""
        images, coding, found = self._images(), self.coding, {}
        assert answered is not None
        for number, name in enumerate(names):
            self.context.progress(number / len(names), f"sensitivity of layer {number + 1} of {len(names)}")
            tried = [coding.encoded(name, self._form(bits)) for bits in _CHOICES]
            found[name] = tuple(Option(c.bits, c.size_bits, self._loss(name, c, images, answered)) for c in tried)
        return found

    def _loss(self, name: str, codes: LevelCodes, images: Images, original: Tensor) -> float:
        with _replaced(self.weight(name), codes.dequantized()):
            coded = answers(self.candidate.module, images, device=self.context.device)
        return divergence(original, coded)

    @torch.no_grad()
    def trained(
        self, codes: Mapping[str, LevelCodes], before: Mapping[str, Tensor], recipe: Recovery
    ) -> dict[str, LevelCodes]:
        """The codes after training, which begins with the weights that were there before them."""
        for name in codes:
            self.weight(name).copy_(before[name])
        coded = replace(self.candidate, plan=self.candidate.plan.with_weights(codes))
        with torch.enable_grad():
            straight = recover(coded, recipe, self.context).straight
        assert straight is not None
        return {name: straight.codes[name] for name in codes}

    def tell(self, codes: Mapping[str, LevelCodes], before: Mapping[str, Tensor], answered: Tensor | None) -> None:
        """What each layer got and what it lost by it."""
        count = max(1, sum(weight.codes.numel() for weight in codes.values()))
        record = self.context.record
        record("layers", [self.names[name] for name in codes])
        record("bits", {self.names[name]: weight.bits for name, weight in codes.items()})
        record("schemes", {self.names[name]: weight.scheme.value for name, weight in codes.items()})
        record("nominal_bits", round(sum(w.bits * w.codes.numel() for w in codes.values()) / count, 4))
        record("effective_bits", round(sum(w.size_bits for w in codes.values()) / count, 4))
        noise = {self.names[name]: sqnr_db(before[name].cpu(), weight.dequantized()) for name, weight in codes.items()}
        now = self.answers()
        if answered is not None and now is not None:
            found = fidelity(answered, now, noise, classes=self.candidate.classes)
            record("quantization", found.model_dump(mode="json"))
        self.context.notice(
            "low_bit_is_storage_only",
            "Weights are widened to float32 to run: the file is smaller, and the network as fast as before.",
        )

    def tell_of_the_rest(self, coded: Coded) -> None:
        """Which layers stay float, and which are rounded to the nearest although GPTQ is asked for."""
        left = [layer for name, layer in self.names.items() if name not in coded.codes]
        if not coded.codes:
            raise UnfitModel(f"Scales and codebooks would take more room than they save, in {left[0]} too.")
        if left:
            self.context.record("layers_left_alone", list(left))
            detail = f"Scales and codebooks would take more room than they save in {', '.join(left[:4])}."
            self.context.notice("layers_left_alone", detail)
        nearest = {self.names[name]: reason for name, reason in coded.by_itself.items()}
        if nearest:
            self.context.record("rounded_to_nearest", {**nearest})
            told = ", ".join(f"{layer} ({reason})" for layer, reason in islice(nearest.items(), 4))
            self.context.notice("rounded_to_nearest", f"Rounded to the nearest, without GPTQ: {told}.")


@contextmanager
def _replaced(weight: nn.Parameter, other: Tensor) -> Iterator[None]:
    """Within this block the weight is another one."""
    own = weight.data
    weight.data = other.to(own.device)
    try:
        yield
    finally:
        weight.data = own
