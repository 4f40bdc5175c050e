"""Block reconstruction: each unit learns to give, in few bits, what it gives in floats.

Li et al. 2021 (BRECQ, arXiv:2102.05426), section 3.2: residual block by residual block, with all before it quantized
already, the rounding of its weights (AdaRound) and the steps of its activations (LSQ) are learned together so that the
squared error of its output is least. Wei et al. 2022 (QDrop, arXiv:2203.05740), section 3.3: meanwhile each activation
stays float with probability 0.5, the block's input among them. No label is needed.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter

from compressor.freezing import Normalization, freeze
from compressor.quantization.aware import Aware, made_aware
from compressor.quantization.learned import ActivationStep
from compressor.quantization.plan import ActivationCode
from compressor.quantization.products import products
from compressor.quantization.soft_rounding import SoftRounding, regularizer
from compressor.quantization.units import units

#: Images in a batch, the step size of the choices between codes, and that of the logarithms of activations' steps.
_BATCH, _ROUNDING_RATE, _STEP_RATE = 32, 0.1, 3e-3
#: How likely an activation stays float while its unit learns.
_DROPPED = 0.5

#: What a fake quantizer gives for what it is given.
Through = Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Reconstruction:
    """How units are reconstructed."""

    #: Updates of each unit.
    iterations: int
    #: On the CPU: it draws the same numbers wherever the network computes.
    generator: torch.Generator
    device: torch.device
    #: Takes the part of the units that is done, and a phase.
    tell: Callable[[float, str], None]

    def reconstructed(
        self,
        graph: GraphModule,
        weights: Mapping[str, SoftRounding],
        activations: Mapping[str, ActivationCode],
        *,
        fixed: Collection[str],
        images: Tensor,
    ) -> Aware:
        """A captured graph, rewritten in place, in which weights by name and activations by site have learned.

        `images` (N, C, H, W) stay where they are, a batch at a time apart. Activations at the sites `fixed` keep
        their codes.
        """
        multiplying = [product.node for product in products(graph)]
        aware = made_aware(graph, weights, activations)
        freeze(aware.network.to(self.device))
        for site in aware.activations.keys() & fixed:
            aware.activations[site].requires_grad_(False)
        found, exact, coded = units(graph, multiplying), images, images
        for number, unit in enumerate(found):
            self.tell(number / len(found), f"block {number + 1} of {len(found)}")
            wanted = self._outputs(unit, exact, _float)
            coded = self._learned(_Unit.of(unit), exact, coded, wanted)
            exact = wanted
        return aware

    def _learned(self, unit: "_Unit", exact: Tensor, coded: Tensor, wanted: Tensor) -> Tensor:
        """What a unit gives in codes, be they those learned or those before, whichever are nearer to what is wanted."""
        before = self._outputs(unit.network, coded, _quantized)
        start = F.mse_loss(before, wanted).item()
        if start > 0 and unit.learning:
            kept = unit.state()
            self._learn(unit, exact, coded, wanted, start)
            after = self._outputs(unit.network, coded, _quantized)
            if F.mse_loss(after, wanted).item() < start:
                return after
            unit.put_back(kept)
        return before

    def _learn(self, unit: "_Unit", exact: Tensor, coded: Tensor, wanted: Tensor, start: float) -> None:
        choices, growths = [r.choice for r in unit.roundings], [step.growth for step in unit.steps]
        optimizer = torch.optim.Adam([
            {"params": choices, "lr": _ROUNDING_RATE},
            {"params": growths, "lr": _STEP_RATE},
        ])  # fmt: skip
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        learn = [*choices, *growths]
        unit.train()
        for iteration in range(self.iterations):
            batch = torch.randint(len(coded), (_BATCH,), generator=self.generator)
            x = self._mixed(coded[batch].to(self.device), exact[batch].to(self.device))
            error = F.mse_loss(_Run(unit.network, self._dropping).run(x), wanted[batch].to(self.device)) / start
            loss = error + unit.undecided(iteration / self.iterations)
            for parameter, gradient in zip(learn, torch.autograd.grad(loss, learn), strict=True):
                parameter.grad = gradient
            optimizer.step()
            schedule.step()
        unit.settle()

    def _mixed(self, coded: Tensor, exact: Tensor) -> Tensor:
        """Each number from one or the other, by chance (Wei et al. 2022, equation 10)."""
        dropped = torch.rand(coded.shape, generator=self.generator) < _DROPPED
        return torch.where(dropped.to(coded.device), exact, coded)

    def _dropping(self, part: nn.Module, x: Tensor) -> Tensor:
        made = _quantized(part, x)
        return self._mixed(made, x) if isinstance(part, ActivationStep) else made

    @torch.no_grad()
    def _outputs(self, network: GraphModule, x: Tensor, through: Through) -> Tensor:
        """What a unit gives for all of x, whose batches go to the device and come back."""
        return torch.cat(
            [_Run(network, through).run(part.to(self.device)).to(x.device) for part in torch.split(x, _BATCH)]
        )


def _float(part: nn.Module, x: Tensor) -> Tensor:
    del part
    return x


def _quantized(part: nn.Module, x: Tensor) -> Tensor:
    made: Tensor = part(x)
    return made


class _Run(Interpreter):
    """Runs a unit, and decides what goes through its fake quantizers."""

    def __init__(self, network: GraphModule, through: Through) -> None:
        super().__init__(network)
        self._through = through

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a part gives: normalization as ever, all others as was decided."""
        part = self.fetch_attr(target)
        return part(*args, **kwargs) if isinstance(part, Normalization) else self._through(part, *args)


@dataclass(frozen=True, eq=False)
class _Unit:
    """One unit, and what of it is still to be learned."""

    network: GraphModule
    roundings: tuple[SoftRounding, ...]
    steps: tuple[ActivationStep, ...]

    @classmethod
    def of(cls, network: GraphModule) -> "_Unit":
        parts = [part for part in network.modules() if any(p.requires_grad for p in part.parameters(recurse=False))]
        roundings = tuple(part for part in parts if isinstance(part, SoftRounding))
        return cls(network, roundings, tuple(part for part in parts if isinstance(part, ActivationStep)))

    @property
    def learning(self) -> tuple[nn.Module, ...]:
        return *self.roundings, *self.steps

    def train(self) -> None:
        for part in self.learning:
            part.train()

    def undecided(self, done: float) -> Tensor | float:
        """What it costs that some weights are neither rounded up nor down."""
        return regularizer(torch.cat([r.up() for r in self.roundings]), done) if self.roundings else 0.0

    def settle(self) -> None:
        """Round as was learned, and learn no more: what another unit reads too is learned once."""
        for rounding in self.roundings:
            rounding.settle()
        for part in self.learning:
            part.eval().requires_grad_(False)

    def state(self) -> list[dict[str, Tensor]]:
        return [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in self.learning]

    def put_back(self, kept: list[dict[str, Tensor]]) -> None:
        for part, state in zip(self.learning, kept, strict=True):
            part.load_state_dict(state)
