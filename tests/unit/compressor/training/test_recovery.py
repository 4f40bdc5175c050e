"""What compression took is given back by the original, with labels beside it or without."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.data.images import Images
from compressor.measure.accuracy import answers
from compressor.methods import fine_tune
from compressor.training.objectives import kl_divergence
from compressor.training.splitting import split_of
from contract.methods.train import FineTune
from contract.model import Architecture
from contract.value import Json
from tests.unit.compressor.networks import Residual
from tests.unit.compressor.small_jobs import PREPROCESSING, images

DATA = images(50, seed=0)
UNLABELLED = replace(DATA, labels=torch.full_like(DATA.labels, -1), class_names=None)


class Contrary(nn.Module):
    """Is sure of the wrong classes."""

    def forward(self, x: Tensor) -> Tensor:
        return 20 * F.one_hot((x.mean((2, 3)).argmax(1) + 1) % 4, 4).float()


def candidate(module: nn.Module | None = None) -> Candidate:
    torch.manual_seed(0)
    return Candidate(
        module=(module or Residual()).eval(),
        architecture=Architecture(name="resnet18"),
        preprocessing=PREPROCESSING,
        num_classes=4,
    )


def recovered(train: Images, notes: dict[str, Json] | None = None, **params: object) -> nn.Module:
    recipe = {"epochs": 3, "batch_size": 10, "learning_rate": 0.01, "distill_from_original": True, **params}
    context = Context(
        train=train,
        others={"original": lambda: candidate(Contrary())},
        record=({} if notes is None else notes).__setitem__,
    )
    return fine_tune.apply(candidate(), FineTune.model_validate(recipe), context).module


def same(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_an_original_can_teach_by_a_flag() -> None:
    # Given an original that is sure of the wrong classes / When a network learns from it rather than from labels
    made = recovered(DATA, epochs=12)
    # Then it says what the original says, and not what the labels say
    said, told = answers(made, DATA).argmax(1), answers(Contrary(), DATA).argmax(1)
    assert float((said == told).float().mean()) > 0.7
    assert float((said == DATA.labels).float().mean()) < 0.3


@pytest.mark.parametrize("mix", ["none", "mixup", "cutmix"])
def test_without_labels_it_learns_what_it_would_with_them_where_these_have_no_part(mix: str) -> None:
    # Given the same images with labels and without / When the original alone teaches / Then the same is learnt
    assert same(recovered(DATA, alpha=1.0, mix=mix), recovered(UNLABELLED, alpha=1.0, mix=mix))
    # And where labels have a part, something else is
    assert not same(recovered(DATA, alpha=1.0, mix=mix), recovered(DATA, alpha=0.9, mix=mix))


def test_without_labels_epochs_are_judged_by_what_the_original_says() -> None:
    # Given images without labels, of which some are held out / When a network learns from the original alone
    notes: dict[str, Json] = {}
    params = {"alpha": 1.0, "held_out": 0.3, "keep": "best"}
    made = recovered(UNLABELLED, notes, **params)
    # Then the best epoch is the one nearest to the original there, at the temperature at which it is learnt from
    held_out = split_of(FineTune.model_validate({"held_out": 0.3, "epochs": 3}), Context(train=UNLABELLED)).held_out
    assert held_out is not None
    said, told = answers(made, held_out), answers(Contrary(), held_out)
    judged = notes["held_out_loss"]
    assert isinstance(judged, list)
    assert min(judged) == pytest.approx(float(kl_divergence(said, told, temperature=4.0)), rel=1e-4)
