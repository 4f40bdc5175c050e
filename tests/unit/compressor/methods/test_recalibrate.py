"""The statistics of batch normalization are those of the images that it was shown."""

import copy

import pytest
import torch
from torch import nn

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.methods import recalibrate
from contract.failures import MissingData, UnfitModel
from contract.methods.recalibrate import Recalibrate
from tests.unit.compressor.networks import Residual
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images

DATA = images(64, seed=0)


def candidate(module: nn.Module) -> Candidate:
    return Candidate(module=module, architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4)


def test_the_statistics_are_those_of_the_images() -> None:
    # Given a network with statistics of something else
    torch.manual_seed(0)
    module = Residual().eval()
    norm, convolution = module.stem[1], module.stem[0]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean.fill_(7)  # type: ignore[union-attr]
    weights = copy.deepcopy(dict(module.named_parameters()))
    # When they are measured anew
    after = recalibrate.apply(candidate(module), Recalibrate(), Context(calibration=DATA)).module
    # Then the first layer's are the mean and the variance of what it gives out
    with torch.no_grad():
        outputs = convolution(next(DATA.batches(64)).x).transpose(0, 1).flatten(1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, outputs.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, outputs.var(1), rtol=1e-4)
    # And no weight has changed, nor the way in which the network would train
    assert all(torch.equal(weights[name], parameter) for name, parameter in after.named_parameters())
    assert norm.momentum == 0.1
    assert not any(part.training for part in after.modules())


def test_a_network_without_statistics_is_refused_before_the_work() -> None:
    with pytest.raises(UnfitModel, match="no batch normalization"):
        recalibrate.preflight(candidate(nn.Linear(2, 2)), Recalibrate())


def test_without_images_it_says_what_is_missing() -> None:
    with pytest.raises(MissingData, match=r"data\.calibration"):
        recalibrate.apply(candidate(Residual()), Recalibrate(), Context())
