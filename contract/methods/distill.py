"""Distillation: a student learns from a teacher's outputs."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from contract.methods.objectives import AnyTerm, Crd, Dist, Dkd, FeatureTerm, Kl, Mse, Objective
from contract.methods.params import Role, Stage, Training
from contract.model import Architecture
from contract.value import Value

_MODEL = r"mdl_[0-9A-HJKMNP-TV-Z]{26}"
TeacherName = Annotated[str, Field(pattern=rf"^(original|uploaded|step_[0-9]{{1,2}}|{_MODEL})$")]
StudentName = Annotated[str, Field(pattern=rf"^(current|{_MODEL})$")]


class Scaled(Value):
    """The teacher's architecture, smaller and with fresh weights."""

    width: float = Field(default=1.0, ge=0.01, le=1, description="The part of its channels that each layer keeps.")
    depth: float = Field(
        default=1.0,
        ge=0.01,
        le=1,
        description="The part of the residual blocks that is kept, of those it can do without.",
    )

    @model_validator(mode="after")
    def _is_smaller(self) -> Self:
        if self.width == self.depth == 1:
            raise ValueError("width or depth must be below 1: a copy as large is the teacher's own architecture")
        return self


class Distill(Training):
    """Trains a student to answer as a teacher does."""

    method: Literal["distill"] = "distill"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.TRAIN})
    needs_labels: ClassVar[bool] = True
    keeps_codes: ClassVar[bool] = True

    objective: Objective = Field(
        default="kl",
        description="The distance between the answers: KL at a temperature (Hinton et al. 2015), squared error on "
        "logits (Ba and Caruana 2014), decoupled KL (Zhao et al. 2022) or correlation (Huang et al. 2022). Or a list "
        "of terms with weights, among them distances of features (docs/distillation.md).",
    )
    temperature: float = Field(
        default=4.0,
        gt=0,
        le=100,
        description="Divides the logits in kl, dkd and dist; in kl and dkd its square scales the loss. Terms of a list "
        "have their own.",
    )
    standardize: bool = Field(
        default=False,
        description="In kl and dkd: take from each image's logits their mean, and divide by their standard deviation, "
        "before the temperature (Sun et al. 2024). Terms of a list have their own.",
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Weight of the teacher's part; 1 - alpha is that of the labels. With 1 the images need none.",
    )
    teacher: TeacherName | Annotated[tuple[TeacherName, ...], Field(min_length=1, max_length=8)] = Field(
        default="original",
        description="Who teaches: the model as the job got it, as step N left it (`step_0`), the id of another, or "
        "`uploaded` with a multipart job. Of several, the mean of the logits is learnt, and the features of the first. "
        "A teacher sees the images in its own size and normalization; larger than the student where their files are.",
    )
    student: StudentName | Scaled | Architecture = Field(
        default="current",
        description="Who learns: the model as the steps before left it, the id of another, a fresh architecture, or a "
        "smaller copy of the first teacher.",
    )
    views: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many changed versions of each image there are; the teacher answers to each once. Null: new "
        "ones in every epoch, to which the teacher answers every time (Beyer et al. 2022).",
    )

    compare_without_teacher: bool = Field(
        default=False,
        description="Train the same student on labels alone too, by the same recipe, and report both: it takes as long "
        "again.",
    )

    @model_validator(mode="after")
    def _views_are_of_changed_images(self) -> Self:
        if self.views is not None and (self.augment == "none" or self.mix != "none"):
            raise ValueError("views counts the versions that augment makes, so augment must be set and mix must not")
        return self

    @model_validator(mode="after")
    def _several_say_something(self) -> Self:
        if len(self.teachers) > 1 and not self.compares_answers:
            raise ValueError("objective compares features alone, those of the first teacher, so teacher must name one")
        return self

    @model_validator(mode="after")
    def _single_images_are_remembered(self) -> Self:
        if self.mix != "none" and any(isinstance(term, Crd) and term.negatives is not None for term in self.terms):
            raise ValueError("negatives of crd are remembered image by image, so mix must be none")
        return self

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if not isinstance(self.objective, str) and (self.temperature != 4 or self.standardize):
            raise ValueError("terms of a list have a temperature and standardize of their own; set them there")
        if self.standardize and self.objective not in ("kl", "dkd"):
            raise ValueError(f"standardize belongs to kl and dkd, and objective is {self.objective}")
        if self.temperature != 4 and self.objective == "mse":
            raise ValueError("temperature belongs to kl, dkd and dist, and objective is mse")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of all who teach."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    @property
    def reads_labels(self) -> bool:
        """Not where everything is learnt from the teacher; features learn adapters, so that they judge no epochs."""
        judged = self.held_out > 0 and self.looks_inside
        return self.alpha < 1 or self.compare_without_teacher or judged

    @property
    def models(self) -> Mapping[str, str]:
        """Those who teach, and the student where it is a model of its own."""
        several = {f"/teacher/{index}": name for index, name in enumerate(self.teachers)}
        taught = {"/student": self.student} if isinstance(self.student, str) and self.student != "current" else {}
        return ({"/teacher": self.teacher} if isinstance(self.teacher, str) else several) | taught

    @property
    def terms(self) -> tuple[AnyTerm, ...]:
        """What the student learns from the teacher, a name spelt out."""
        match self.objective:
            case "kl":
                return (Kl(temperature=self.temperature, standardize=self.standardize),)
            case "dkd":
                return (Dkd(temperature=self.temperature, standardize=self.standardize),)
            case "dist":
                return (Dist(temperature=self.temperature),)
            case "mse":
                return (Mse(),)
            case terms:
                return terms

    @property
    def looks_inside(self) -> bool:
        """Whether features are compared."""
        return any(isinstance(term, FeatureTerm) for term in self.terms)

    @property
    def compares_answers(self) -> bool:
        """Whether logits are compared, for which both must tell the same classes apart."""
        return not all(isinstance(term, FeatureTerm) for term in self.terms)
