"""A network's weights become codes, layer after layer as they run, each on what reaches it by then."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, damped, sees, sees_all
from compressor.outcomes import Outcome, outcome_as_before, set_rows
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.gptq import compensated
from compressor.quantization.levels import LevelCodes

#: Bits of a weight that has no codes.
FLOAT_BITS = 32


@dataclass(frozen=True)
class Coded:
    """What has become of weights, by parameter name."""

    #: A weight so small that scales and codebook take more room than they save has none.
    codes: Mapping[str, LevelCodes]
    #: Why a weight was rounded by itself where others should have made up for its errors.
    by_itself: Mapping[str, str]


@dataclass(frozen=True)
class Coding:
    """Weights by parameter name, and how to code them."""

    module: nn.Module
    #: The layers of those weights, by parameter name.
    layers: Mapping[str, nn.Module]
    #: For a pruned weight, true where it is kept.
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    #: Images as the network takes them, for errors that others make up for; none to round each weight by itself.
    batches: Callable[[], Iterator[Tensor]] | None = None

    def encoded(self, name: str, form: Form) -> LevelCodes:
        """The codes of one weight, each at its nearest level."""
        return encoded(self.module.get_parameter(name), form, kept=self.masks.get(name))

    def apply(self, forms: Mapping[str, Form], tell: Callable[[float, str], None]) -> Coded:
        """The codes of every weight, in the order of `forms`; the weights become what they mean."""
        found: dict[str, LevelCodes] = {}
        by_itself: dict[str, str] = {}
        original = copy.deepcopy(self.module) if self.batches else None
        for number, (name, form) in enumerate(forms.items()):
            tell(number / len(forms), f"layer {number + 1} of {len(forms)}")
            seen = self._seen(name, original) if original else None
            if isinstance(seen, str):
                by_itself[name], seen = seen, None
            codes = self._compensated(name, form, seen) if seen else self.encoded(name, form)
            if codes.size_bits < FLOAT_BITS * codes.codes.numel():
                found[name] = codes
                self._replace(name, codes, seen)
        return Coded(found, {name: reason for name, reason in by_itself.items() if name in found})

    @torch.no_grad()
    def _replace(self, name: str, codes: LevelCodes, seen: Outcome | None) -> None:
        layer, made = self.layers[name], codes.dequantized()
        self.module.get_parameter(name).copy_(made)
        if seen is not None and isinstance(layer, Seeing):
            set_rows(layer, seen.with_best_bias(made.to(seen.yx).reshape(*seen.yx.shape[:2], -1)))

    def _seen(self, name: str, original: nn.Module) -> Outcome | str:
        """What a layer sees and shall give, or why its errors cannot be made up for; raises `UnfitModel`."""
        layer, owner = self.layers[name], name.rpartition(".")[0]
        if not sees(layer):
            return "what it sees cannot be unfolded"
        assert isinstance(layer, Seeing)
        features = layer.weight[0].numel()
        if not sees_all(features):
            return f"it sees {features:,} numbers at once"
        assert self.batches is not None
        return outcome_as_before(self.module, original, owner, self.batches()) or "the network does not call it"

    def _compensated(self, name: str, form: Form, seen: Outcome) -> LevelCodes:
        """The codes of a weight, each making up for the errors of those before it, and all for those of layers before.

        A bias will be the best there is.
        """
        weight, kept = self.module.get_parameter(name), self.masks.get(name)
        free = seen.unbiased
        mask = None if kept is None else kept.to(weight.device).reshape(free.yx.shape)
        aim = free.aimed(weight.double().reshape(free.yx.shape), damped(free.xx), mask).reshape(weight.shape)
        return compensated(aim, free.xx.float(), form, kept=kept)
