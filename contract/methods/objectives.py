"""What a student can learn from its teacher: distances of answers and of features, each a term of a weighted sum."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from contract.value import AT_LEAST_ONE, Value

Weight = Annotated[float, Field(gt=0, le=1e6, description="Factor of the term in the teacher's part.")]
Share = Annotated[float, Field(ge=0, le=1e4)]


LayerName = Annotated[str, Field(min_length=1, max_length=512)]


class Term(Value):
    """One distance between student and teacher."""

    weight: Weight = 1.0


class Tempered(Term):
    """A distance of logits at a temperature."""

    temperature: float = Field(default=4.0, gt=0, le=100, description="Divides the logits.")


class Standardized(Tempered):
    """A distance of logits that may be standardized first."""

    standardize: bool = Field(
        default=False,
        description="Take from each image's logits their mean, and divide by their standard deviation, before the "
        "temperature (Sun et al. 2024): the student need not match how large they are.",
    )


class Kl(Standardized):
    """KL at a temperature, whose square scales it (Hinton et al. 2015)."""

    objective: Literal["kl"] = "kl"


class Mse(Term):
    """Mean squared error on logits (Ba and Caruana 2014)."""

    objective: Literal["mse"] = "mse"


class Dkd(Standardized):
    """KL in two parts, of the target against all other classes and among the others (DKD, Zhao et al. 2022)."""

    objective: Literal["dkd"] = "dkd"
    target: Share = Field(default=1.0, description="Factor of the target's part, alpha in the paper.")
    others: Share = Field(
        default=1.0, description="Factor of the other classes' part, beta in the paper, where it goes up to 8."
    )


class Dist(Tempered):
    """One minus Pearson's correlation, within each image and within each class (DIST, Huang et al. 2022)."""

    objective: Literal["dist"] = "dist"
    inter: Share = Field(default=1.0, description="Factor of the correlation over the classes of each image.")
    intra: Share = Field(default=1.0, description="Factor of the correlation over the images for each class.")


class FeatureTerm(Term):
    """A distance of what layers give out; its mean over the pairs of layers."""

    layers: Annotated[tuple[tuple[LayerName, LayerName], ...], Field(max_length=64), AT_LEAST_ONE] | None = Field(
        default=None,
        description="Pairs of a student's and a teacher's layer; null matches them by the ends of stages and by depth.",
    )


class Fitnet(FeatureTerm):
    """Mean squared error behind a learned 1x1 convolution where widths differ (FitNets, Romero et al. 2015)."""

    objective: Literal["fitnet"] = "fitnet"


class Attention(FeatureTerm):
    """Where in the image the features are large (attention transfer, Zagoruyko and Komodakis 2017)."""

    objective: Literal["attention"] = "attention"
    power: float = Field(default=2.0, ge=1, le=8, description="To which features are raised before channels are added.")


class Similarity(FeatureTerm):
    """Which images of a batch have similar features (similarity preserving, Tung and Mori 2019)."""

    objective: Literal["similarity"] = "similarity"
    weight: Weight = 100.0


class Rkd(FeatureTerm):
    """Distances and angles between the images of a batch (relational distillation, Park et al. 2019)."""

    objective: Literal["rkd"] = "rkd"
    distance: Share = Field(default=1.0, description="Factor of the distances between two images.")
    angle: Share = Field(default=2.0, description="Factor of the angles that three images make.")


class Crd(FeatureTerm):
    """Tells which image the teacher saw, among the batch's or among remembered ones (contrastive, Tian et al. 2020)."""

    objective: Literal["crd"] = "crd"
    temperature: float = Field(default=0.07, gt=0, le=10, description="Divides the cosines.")
    width: int = Field(default=128, ge=2, le=8192, description="Of the space in which features are compared.")
    negatives: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="How many other images each is told from, drawn anew in every batch from a memory of both "
        "networks' vectors for all images, which takes 8 bytes x `width` for each, 2 GiB at most, on the device and in "
        "each checkpoint (16384 in the paper). Null: the rest of the batch.",
    )
    weight: Weight = 0.8


LogitTerm = Kl | Mse | Dkd | Dist
LayerTerm = Fitnet | Attention | Similarity | Rkd | Crd
AnyTerm = Annotated[LogitTerm | LayerTerm, Field(discriminator="objective")]
#: A distance of logits by its name alone, or terms with weights; what is wrong is told of the one that was meant.
Objective = Annotated[
    Annotated[Literal["kl", "mse", "dkd", "dist"], Tag("name")]
    | Annotated[tuple[AnyTerm, ...], Field(max_length=16), AT_LEAST_ONE, Tag("terms")],
    Discriminator(lambda given: "name" if isinstance(given, str) else "terms"),
]
