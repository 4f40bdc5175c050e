"""A network's weights become codes, layer after layer as they run, each on what reaches it by then."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, input_products, sees, sees_all
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.gptq import compensated
from compressor.quantization.levels import LevelCodes
from compressor.quantization.ranging import not_finite

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
        for number, (name, form) in enumerate(forms.items()):
            tell(number / len(forms), f"layer {number + 1} of {len(forms)}")
            codes = self._compensated(name, form) if self.batches else self.encoded(name, form)
            if isinstance(codes, str):
                by_itself[name] = codes
                codes = self.encoded(name, form)
            if codes.size_bits < FLOAT_BITS * codes.codes.numel():
                found[name] = codes
                self._replace(name, codes)
        return Coded(found, {name: reason for name, reason in by_itself.items() if name in found})

    @torch.no_grad()
    def _replace(self, name: str, codes: LevelCodes) -> None:
        self.module.get_parameter(name).copy_(codes.dequantized())

    def _compensated(self, name: str, form: Form) -> LevelCodes | str:
        """The codes of a weight for whose errors others make up, or why none can; raises `UnfitModel`."""
        layer = self.layers[name]
        if not sees(layer):
            return "what it sees cannot be unfolded"
        assert isinstance(layer, Seeing)
        features = layer.weight[0].numel()
        if not sees_all(features):
            return f"it sees {features:,} numbers at once"
        assert self.batches is not None
        products = input_products(self.module, layer, self.batches())
        if products is None:
            return "the network does not call it"
        if not products.isfinite().all():
            owner = name.rpartition(".")[0]
            raise not_finite(owner, layer=owner)
        return compensated(self.module.get_parameter(name), products, form, kept=self.masks.get(name))
