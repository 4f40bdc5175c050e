"""What is known of what layers see, where there is nothing to be seen."""

import torch
from torch import nn

from compressor.curvature.moments import gathered


def test_what_never_varies_has_next_to_no_power_and_can_still_be_divided_by() -> None:
    # Given layers that see the same in every place of every image, up to what float32 gets wrong
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers = {name: network.get_submodule(name) for name in ("0", "1")}
    image = torch.tensor([0.3, -70.0, 1e3]).view(1, 3, 1, 1).expand(32, 3, 9, 9)
    # When moments are gathered / Then their mean is known, and their covariance regular and small beside its square
    for name, sums in gathered(network, layers, [image] * 4, seed=0).items():  # type: ignore[arg-type]
        found = sums.moments()
        assert (torch.linalg.eigvalsh(found.covariance.double()) > 0).all(), name
        assert float(found.covariance.diagonal().mean()) < 1e-4 * float(found.mean.square().mean()), name
