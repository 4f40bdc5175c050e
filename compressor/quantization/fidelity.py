"""How near a quantized network stays to the float one: layer by layer, and in its answers."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from compressor.measure.accuracy import top1
from compressor.measure.fidelity import agreement, divergence
from contract.report import Flips, LayerNoise, QuantizationFidelity

_DIGITS = 2


def fidelity(
    exact: Tensor, coded: Tensor, sqnr_db: Mapping[str, float | None], *, classes: Sequence[str] | None
) -> QuantizationFidelity:
    """Logits `coded` against logits `exact`, both of shape (images, classes), and the noise of each layer."""
    return QuantizationFidelity(
        images=len(exact),
        top1_agreement=agreement(exact, coded),
        kl=divergence(exact, coded),
        layers=tuple(
            LayerNoise(name=name, sqnr_db=None if noise is None else round(noise, _DIGITS))
            for name, noise in sqnr_db.items()
        ),
        flips=tuple(_flips(top1(exact), top1(coded), classes)),
    )


def _flips(before: Tensor, after: Tensor, classes: Sequence[str] | None) -> Iterator[Flips]:
    for label in sorted(set(before[before != after].tolist())):
        answered = before == label
        yield Flips(
            name=classes[label] if classes else str(label),
            images=int(answered.sum()),
            flipped=int((answered & (after != label)).sum()),
        )
