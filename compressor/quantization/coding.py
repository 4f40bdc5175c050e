"""A network's weights become codes, layer after layer as they run, each on what reaches it by then."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compressor.inputs import Seeing, input_products, sees
from compressor.quantization.fitting import Form, encoded
from compressor.quantization.gptq import compensated
from compressor.quantization.levels import LevelCodes

#: Bits of a weight that has no codes.
FLOAT_BITS = 32


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

    def apply(self, forms: Mapping[str, Form], tell: Callable[[float, str], None]) -> dict[str, LevelCodes]:
        """The codes of every weight, in the order of `forms`; the weights become what they mean.

        A weight so small that scales and codebook take more room than they save stays as it is, and has none.
        """
        found: dict[str, LevelCodes] = {}
        for number, (name, form) in enumerate(forms.items()):
            tell(number / len(forms), f"layer {number + 1} of {len(forms)}")
            codes = self._compensated(name, form) or self.encoded(name, form)
            if codes.size_bits < FLOAT_BITS * codes.codes.numel():
                found[name] = codes
                self._replace(name, codes)
        return found

    @torch.no_grad()
    def _replace(self, name: str, codes: LevelCodes) -> None:
        self.module.get_parameter(name).copy_(codes.dequantized())

    def _compensated(self, name: str, form: Form) -> LevelCodes | None:
        layer = self.layers[name]
        if self.batches is None or not sees(layer):
            return None
        assert isinstance(layer, Seeing)
        products = input_products(self.module, layer, self.batches())
        if products is None:
            return None
        return compensated(self.module.get_parameter(name), products, form, kept=self.masks.get(name))
