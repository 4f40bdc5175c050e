"""Which state of a job is delivered: the last, or the latest that meets the constraints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from compressor.context import Interrupted
from compressor.delivery import Delivery, deliver_all, primary
from compressor.exports.openvino_nncf import Unquantized
from compressor.measure.state import State
from compressor.order import Order
from compressor.quantization.simulate import simulated
from compressor.report.figures import report
from compressor.verdicts import may_hold, verdicts
from compressor.verify import Bench, Proof, prove
from contract.job import Verdict
from contract.methods import Params
from contract.report import Report, StepReport


@dataclass(frozen=True)
class Choice:
    """A state that was written and proven, and what that says to the constraints."""

    state: State
    #: Of the steps that it has been through.
    steps: tuple[StepReport, ...]
    proofs: tuple[Proof, ...]
    report: Report
    verdicts: tuple[Verdict, ...]

    @property
    def met(self) -> bool:
        """Whether every constraint is met."""
        return all(verdict.met for verdict in self.verdicts)


def deliverable(steps: Sequence[Params]) -> range:
    """The steps before the last whose networks tell the classes apart that were ordered, and no others."""
    first = next((index for index, step in enumerate(steps) if step.kept_classes is not None), 0)
    return range(first, len(steps) - 1)


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """Writes and proves states, from the last one back, until one meets the constraints."""

    order: Order
    bench: Bench
    #: The state that a step has left, by the step's index.
    state_after: Callable[[int], State]
    #: What a quantizer starts from that has means of its own.
    unquantized: Callable[[], Unquantized]
    #: Takes the done fraction of one state's proof, and what is being done.
    progress: Callable[[float, str], None]
    stop_requested: Callable[[], bool]

    def choose(self, last: State, steps: tuple[StepReport, ...]) -> Choice:
        """The last state; where it does not meet the constraints and the job wants the best, the latest that does."""
        final = self._proven(last, steps)
        if final.met or self.order.spec.on_unmet == "fail":
            return final
        earlier = (self._earlier(index, steps) for index in reversed(deliverable(self.order.spec.steps)))
        return next((choice for choice in earlier if choice is not None and choice.met), final)

    def _earlier(self, index: int, steps: tuple[StepReport, ...]) -> Choice | None:
        before, after = self.bench.original.measurement, steps[index]
        if not may_hold(self.order.spec.constraints, before, after.measurement, after.drop):
            return None
        return self._proven(self.state_after(index), steps[: index + 1])

    def _proven(self, state: State, steps: tuple[StepReport, ...]) -> Choice:
        folder = self.order.scratch / "deliveries" / str(len(steps))
        folder.mkdir(parents=True, exist_ok=True)
        self.progress(0.0, "writing the files")
        deliveries = deliver_all(state.candidate, self.order.spec.outputs, folder, self.unquantized)
        proofs = tuple(
            self._prove(delivery, state, folder, i / len(deliveries)) for i, delivery in enumerate(deliveries)
        )
        wanted = primary([delivery.output for delivery in deliveries])
        proof = next(proof for proof in proofs if proof.delivery.output == wanted)
        figures = report(self.bench, state, proof, device=self.order.device)
        return Choice(state, steps, proofs, figures, verdicts(self.order.spec.constraints, figures))

    def _prove(self, delivery: Delivery, state: State, folder: Path, done: float) -> Proof:
        if self.stop_requested():
            raise Interrupted
        self.progress(0.1 + 0.9 * done, f"proving {delivery.main.relative_to(folder)}")
        return prove(delivery, self._reference(delivery, state), self.bench)

    def _reference(self, delivery: Delivery, state: State) -> Tensor:
        if delivery.candidate is state.candidate:
            return state.logits
        return self.bench.probe.answers(simulated(delivery.candidate))
