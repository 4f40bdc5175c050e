"""The decompositions that a layer can have."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from torch import Tensor

from compressor.factorization import cp, spatial, svd, tucker
from compressor.factorization.layer import Known
from compressor.models.parts import Convolution, Part
from contract.methods.factorize import Decomposition

Ranks = tuple[int, ...]


class Scheme(Protocol):
    """One of the four; each of its ranks is between 1 and the full one."""

    def full_ranks(self, shape: Sequence[int]) -> Ranks:
        """With which a weight (outputs, channels, rows, columns) is told exactly."""
        ...

    def kept(self, known: Known, ranks: Sequence[Ranks]) -> list[float]:
        """Which part of the output, in squares, each of the ranks keeps at least."""
        ...

    def factors(self, known: Known, ranks: Ranks) -> tuple[Tensor, ...]:
        """The weights of the layers, in their order."""
        ...

    def composed(self, weights: Sequence[Tensor]) -> Tensor:
        """The one weight that does what these do."""
        ...

    def parts(self, layer: Convolution, ranks: Ranks) -> tuple[Part, ...]:
        """The layers, which begin without weights."""
        ...


SCHEMES: Mapping[Decomposition, Scheme] = {
    Decomposition.SVD: svd,
    Decomposition.SPATIAL: spatial,
    Decomposition.TUCKER: tucker,
    Decomposition.CP: cp,
}
#: Among which the best is chosen. Terms of CP must be found anew for every rank, and train worse.
_AUTO = (Decomposition.SVD, Decomposition.SPATIAL, Decomposition.TUCKER)


def schemes_for(wanted: Literal["auto"] | Decomposition, known: Known) -> tuple[Decomposition, ...]:
    """What a layer can have of what is wanted; where there is nothing to part, as without a kernel, svd."""
    among = _AUTO if wanted == "auto" else (wanted,)
    return tuple(scheme for scheme in among if _fits(scheme, known)) or (Decomposition.SVD,)


def usual_for(wanted: Literal["auto"] | Decomposition, known: Known) -> Decomposition:
    """The one whose rank is meant where a rank is told."""
    among = schemes_for(wanted, known)
    return Decomposition.SPATIAL if Decomposition.SPATIAL in among else among[0]


def _fits(scheme: Decomposition, known: Known) -> bool:
    if scheme is Decomposition.SVD:
        return True
    if known.wide:
        return False
    sides = known.kernel
    return max(sides) > 1 if scheme is Decomposition.TUCKER else min(sides) > 1
