"""Statistics of batch normalization follow what has changed, and nothing else."""

import pytest
import torch
from torch import nn

from compressor.data.images import Images
from compressor.training.normalization import moments, normalizations, recalibrate, shift
from tests.unit.compressor.networks import images_for, residual

CPU = torch.device("cpu")


def network() -> tuple[nn.Module, Images]:
    candidate = residual()
    return candidate.module, images_for(candidate, 64)


def statistics(module: nn.Module) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in module.state_dict().items() if n.endswith(("running_mean", "running_var"))}


def test_measuring_leaves_the_statistics_as_they_are() -> None:
    # Given a network / When what its normalizations are given is measured / Then nothing of it has changed
    module, images = network()
    before = statistics(module)
    assert moments(module, images, device=CPU).keys() == normalizations(module).keys()
    assert all(torch.equal(t, before[n]) for n, t in statistics(module).items())
    assert not any(part.training for part in module.modules())


def test_where_nothing_has_changed_nothing_moves() -> None:
    # Given statistics that no few images have / When they are shifted without a change / Then they stay
    module, images = network()
    before = statistics(module)
    shift(module, images, moments(module, images, device=CPU), device=CPU)
    assert all(torch.allclose(t, before[n], rtol=1e-4, atol=1e-5) for n, t in statistics(module).items())


@pytest.mark.parametrize("factor", [0.05, 3.0])
def test_a_layer_that_gives_less_is_made_up_for(factor: float) -> None:
    # Given a network whose first convolution gives a part of what it gave, or more
    module, images = network()
    x = images.normalized(images.pixels)
    with torch.no_grad():
        wanted = module(x)
        given = moments(module, images, device=CPU)
        convolution = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
        convolution.weight *= factor
        if convolution.bias is not None:
            convolution.bias *= factor
        # When the statistics are shifted / Then it answers as before, but for what keeps variances above zero
        shift(module, images, given, device=CPU)
        assert torch.allclose(module(x), wanted, atol=0.02 * float(wanted.abs().max()))


def test_measuring_anew_takes_what_the_images_have() -> None:
    # Given a network / When its statistics are measured anew / Then they are the images' own
    module, images = network()
    assert recalibrate(module, images, device=CPU) == len(normalizations(module))
    found = moments(module, images, device=CPU)
    for name, part in normalizations(module).items():
        assert part.running_mean is not None
        assert torch.allclose(part.running_mean, found[name].mean, atol=1e-5)
