"""Pruning: zeros in place, or smaller tensors."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.params import Params, Patterns, Recovery, Role, Stage

Amount = Annotated[float, Field(ge=0, le=1)]

#: Importances that look at images.
_LOOKING = frozenset({"gradient", "wanda", "obs"})
#: The same, of channels.
_SHOWN = frozenset({"taylor", "hessian", "fisher", "obs", "activation"})
#: Those that tell a loss, which is the same in all layers.
_LOSSES = ("taylor", "hessian", "fisher", "obs")
#: Those of them that are compared by what channels cost where nothing else is told.
_BY_COST = frozenset({"fisher", "obs"})
#: What can be said of channels instead of a ratio.
TARGETS = ("macs_ratio", "parameters_ratio", "latency_ratio", "threshold")
_N_OF_M = re.compile(r"([1-9]\d?):([1-9]\d?)")


def _told(given: Any, name: str, default: float, *, unless: tuple[str, ...]) -> Any:
    """What was given with a default for one field, where none of the fields that could stand for it is there."""
    if not isinstance(given, dict) or ":" in str(given.get("pattern", "")):
        return given
    missing = all(given.get(one) is None for one in (name, *unless))
    return given | {name: default} if missing else given


class PruneWeights(Params):
    """Sets the least important weights to zero; the tensors keep their shapes."""

    method: Literal["prune_weights"] = "prune_weights"
    stage: ClassVar[Stage] = Stage.WEIGHTS

    importance: Literal["l1", "random", "gradient", "lamp", "wanda", "obs"] = Field(
        default="l1",
        description="What tells a weight's importance: its magnitude; chance; magnitude times gradient, summed over "
        "batches (Molchanov et al. 2017); its share of what its layer still has (LAMP, Lee et al. 2021); magnitude "
        "times the norm of its input (Wanda, Sun et al. 2023); its effect on the layer's output, the other weights "
        "making up for it and for what layers before have lost (OBS: Hassibi and Stork 1993; by ADMM, Boza 2024).",
    )
    amount: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Fraction of the weights to zero; 0.5 where nothing else says how many.",
    )
    count: int | None = Field(
        default=None, ge=0, description="Number of weights to zero: in each layer, or in all with scope global."
    )
    threshold: float | None = Field(
        default=None, ge=0, description="Weights of at most this magnitude become zero; with importance l1."
    )
    scope: Literal["layer", "global"] = Field(
        default="layer", description="Whether the weights of each layer or of all layers together are ranked."
    )
    distribution: Literal["uniform", "erk"] = Field(
        default="uniform",
        description="How amount is spread with scope layer: the same for each, or less for small layers "
        "(Erdos-Renyi-Kernel, Evci et al. 2020).",
    )
    amount_by_layer: dict[str, Amount] = Field(
        default_factory=dict,
        max_length=256,
        description="Amounts of their own, by globs over the names of modules; the first that matches counts.",
    )
    pattern: str = Field(
        default="unstructured",
        pattern=r"^(unstructured|filters|1x4|4x1|[1-9]\d?:[1-9]\d?)$",
        description="Which weights go together: each alone; whole filters, but the classifier's; blocks of one output "
        "by four inputs (1x4) or four outputs by one input (4x1); or N of every M consecutive input channels stay (2:4 "
        "and the like).",
    )
    on_unfit: Literal["skip", "fail"] = Field(
        default="skip",
        description="What happens to layers that do not fit the pattern or the importance, as the first convolution "
        "and depthwise ones do not fit 2:4, and those whose outputs have many thousand inputs each do not fit obs.",
    )
    compare: Literal["row", "layer"] = Field(
        default="layer", description="With wanda and scope layer: whether the weights of each output are ranked alone."
    )
    samples: int = Field(default=256, ge=1, le=65_536, description="How many images importances look at at most.")
    schedule: Literal["one_shot", "iterative", "gradual"] = Field(
        default="one_shot",
        description="All at once; in rounds that zero the same part of what is left, with training in between; or "
        "during training, along the cubic curve of Zhu and Gupta 2017. With obs the weights that are left make up for "
        "each part that goes: at the start of each round, or about six times along the curve.",
    )
    rounds: int = Field(default=3, ge=2, le=100, description="Of the iterative schedule.")
    pruned_by: float = Field(
        default=0.67,
        gt=0,
        le=1,
        description="With gradual: the part of the training behind which the amount is reached. The rest makes up for "
        "what is gone, and needs time where much is.",
    )
    rewind: bool = Field(
        default=False,
        description="With iterative: after each round what is left gets the values that it had before the step "
        "(Frankle and Carbin 2019).",
    )
    training: Recovery | None = Field(
        default=None,
        description="How the network is trained while it is pruned: for iterative and gradual. Epochs count for "
        "patience and keep from where the amount is reached.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Measure the statistics of batch normalization anew behind a cut at once, where there is data; a "
        "training leaves those that it has seen, and obs those to which it has fitted the layers.",
    )
    include: Patterns = Field(default=("*",), description="Globs over the names of the modules to prune.")
    exclude: Patterns = Field(default=(), description="Globs over the names of modules to leave alone.")

    @property
    def recipe(self) -> Recovery | None:
        """The training during iterative and gradual pruning."""
        return None if self.schedule == "one_shot" else self.training or Recovery()

    @property
    def roles(self) -> frozenset[Role]:
        """Training data for schedules, calibration data for importances that look at images."""
        return super().roles | (frozenset({Role.CALIBRATION}) if self.importance in _LOOKING else frozenset())

    @property
    def labelled(self) -> frozenset[Role]:
        """Those of the training, and those from which gradients are taken."""
        return super().labelled | (frozenset({Role.CALIBRATION}) if self.importance == "gradient" else frozenset())

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of a pattern such as 2:4."""
        found = _N_OF_M.fullmatch(self.pattern)
        return (int(found[1]), int(found[2])) if found else None

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, given: Any) -> Any:
        return _told(given, "amount", 0.5, unless=("count", "threshold"))

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        told = [self.amount, self.count, self.threshold]
        if sum(one is not None for one in told) > 1:
            raise ValueError("give one of amount, count and threshold")
        if self.threshold is not None and (self.importance != "l1" or self.pattern != "unstructured"):
            raise ValueError("threshold is a bound on the magnitude of single weights: importance l1, unstructured")
        if self.n_of_m is not None and (self.n_of_m[0] >= self.n_of_m[1] or any(one is not None for one in told)):
            raise ValueError("a pattern N:M has N below M and says by itself how many weights become zero")
        return self

    @model_validator(mode="after")
    def _one_spread(self) -> Self:
        spread = self.distribution != "uniform" or bool(self.amount_by_layer)
        fixed = (
            self.scope == "global" or self.count is not None or self.threshold is not None or self.n_of_m is not None
        )
        if spread and fixed:
            raise ValueError("distribution and amount_by_layer spread an amount over layers with scope layer")
        alone = self.pattern == "unstructured" or self.n_of_m is not None
        ranked = self.importance == "wanda" and self.scope == "layer" and self.count is None and alone
        if self.compare == "row" and not ranked:
            raise ValueError(
                "compare row ranks the single weights of each output: importance wanda, scope layer, an amount or N:M"
            )
        return self

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.schedule == "one_shot":
            if self.training is not None or self.rewind:
                raise ValueError("one_shot does not train; put a fine_tune step behind it, or choose another schedule")
            return self
        if self.threshold is not None or self.count is not None or self.n_of_m is not None:
            raise ValueError("iterative and gradual raise an amount step by step, which count, threshold and N:M lack")
        if self.rewind and (self.schedule != "iterative" or self.importance == "obs"):
            raise ValueError("rewind belongs to the iterative schedule, and would undo what obs makes up for")
        return self


class PruneChannels(Params):
    """Removes the least important channels, so that the tensors become smaller."""

    method: Literal["prune_channels"] = "prune_channels"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    reshapes: ClassVar[bool] = True

    ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Fraction of the channels, and of the heads of attention, to remove; parameters of convolutions "
        "fall by about its square. 0.5 without a target.",
    )
    macs_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Multiply-accumulates to leave, as a part of those before the step."
    )
    parameters_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Parameters to leave, as a part of those before the step."
    )
    latency_ratio: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Time for a batch (p50) to leave, as a part of that before the step: float32 in ONNX Runtime, "
        "measured on this worker's processors.",
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        description="Channels of at most this importance go, which with bn_scale is the scale itself; the step's "
        "report tells the importances in each layer.",
    )
    importance: Literal[
        "l1", "l2", "bn_scale", "taylor", "hessian", "fisher", "obs", "fpgm", "lamp", "activation", "random"
    ] = Field(
        default="l2",
        description="What tells a channel's importance, over all the layers that share it: the norm of its weights; "
        "the scale of its batch normalization (Liu et al. 2017); weight times gradient, or the curvature of the loss, "
        "on calibration images (Molchanov et al. 2019; LeCun et al. 1990); what the loss would rise by without it, by "
        "calibration images without labels: told by gates (fisher: Theis et al. 2018; Liu et al. 2021), or for layers "
        "that make up for it with what they have left, as reconstruct lets them (obs: Kurtic et al. 2023); how far it "
        "is from the other channels (FPGM, He et al. 2019); its share of what its layer still has (LAMP); the size of "
        "its activations; chance.",
    )
    scope: Literal["layer", "global", "isomorphic"] = Field(
        default="layer",
        description="Whether channels are ranked within their layer, over the whole network, or among layers of the "
        "same structure (Fang et al. 2024).",
    )
    compare: Literal["mean", "cost"] = Field(
        default="mean",
        description="How channels of different layers are compared where scope ranks them together: by their "
        "importance over the mean of their layer's; or over what they cost, in MACs or, for parameters_ratio, in "
        "parameters (Liu et al. 2021). cost, which is the default of obs and fisher, is for importances that tell a "
        "loss: obs, fisher, hessian and taylor.",
    )
    ratio_by_layer: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        max_length=256,
        description="Ratios of their own, by globs over the names of modules; the first that matches counts. Of layers "
        "that share their channels the smallest ratio counts.",
    )
    round_to: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Channel counts stay multiples of this; INT8 kernels want 8, float32 ones with AVX-512 16 or 32.",
    )
    rounds: int = Field(
        default=1,
        ge=1,
        le=32,
        description="In how many steps of the same size channels are removed. Importances are taken anew in each: what "
        "a channel is worth depends on which others there are, so that fisher gains much by four and obs little.",
    )
    training: Recovery | None = Field(
        default=None, description="How the network is trained between rounds; null does not train it."
    )
    reconstruct: bool = Field(
        default=True,
        description="Fit what is left, layer by layer, to what the layers gave before on calibration images, where "
        "there are any (He et al. 2017): each layer that has lost inputs gets the weights of least squared error. "
        "That takes a run of both networks over the images for each of them.",
    )
    samples: int = Field(
        default=256, ge=1, le=65_536, description="How many images importances and reconstruct look at at most."
    )
    reconstruct_samples: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="How many images reconstruct looks at in the last round, by default no more than before. Layers of "
        "many inputs that are run at few places of an image want thousands.",
    )
    recalibrate: bool = Field(
        default=True,
        description="Measure the statistics of batch normalization anew behind it, where there is data; a network that "
        "is reconstructed keeps its own.",
    )
    include: Patterns = Field(
        default=("*",), description="Globs over the names of the modules whose outputs may shrink."
    )
    exclude: Patterns = Field(
        default=(), description="Globs over the names of modules whose outputs stay; the classifier's always do."
    )

    @property
    def recipe(self) -> Recovery | None:
        """The training between rounds."""
        return self.training

    @property
    def roles(self) -> frozenset[Role]:
        """Training data for training, calibration data for importances that look at images."""
        return super().roles | (frozenset({Role.CALIBRATION}) if self.importance in _SHOWN else frozenset())

    @property
    def labelled(self) -> frozenset[Role]:
        """Those of the training, and those from which gradients are taken."""
        graded = self.importance in ("taylor", "hessian")
        return super().labelled | (frozenset({Role.CALIBRATION}) if graded else frozenset())

    @model_validator(mode="before")
    @classmethod
    def _resolved(cls, given: Any) -> Any:
        told = _told(given, "ratio", 0.5, unless=TARGETS)
        if not isinstance(told, dict) or told.get("scope", "layer") == "layer":
            return told
        return {"compare": "cost", **told} if told.get("importance") in _BY_COST else told

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(getattr(self, one) is not None for one in ("ratio", *TARGETS)) > 1:
            raise ValueError(f"give one of ratio, {', '.join(TARGETS[:-1])} and {TARGETS[-1]}")
        if self.threshold is not None and (self.scope != "layer" or self.rounds > 1 or self.importance == "random"):
            raise ValueError("a threshold is a bound on importances: scope layer, one round, and not by chance")
        if self.compare == "cost" and (self.scope == "layer" or self.importance not in _LOSSES):
            raise ValueError(
                "compare cost ranks channels of several layers by losses: scope global or isomorphic, importance "
                f"{', '.join(_LOSSES[:-1])} or {_LOSSES[-1]}"
            )
        if self.reconstruct_samples is not None and not self.reconstruct:
            raise ValueError("reconstruct_samples belongs to reconstruct, which is false")
        if self.training is not None and self.rounds == 1:
            raise ValueError("one round does not train; put a fine_tune step behind it, or ask for more rounds")
        return self
