"""A network of which every formula can be written out."""

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.data.images import Images
from contract.model import Preprocessing
from tests.unit.compressor.pruning.architectures import candidate

IMAGES = Images(
    torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(3)),
    torch.arange(24) % 4,
    Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.25,) * 3),
)


class Plain(nn.Module):
    """Two convolutions, one of which may shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)).relu()).mean((2, 3))


def plain() -> Candidate:
    """A network of which every formula can be written out."""
    torch.manual_seed(0)
    module = Plain().eval()
    module.norm.weight.data.uniform_(0.2, 2.0)
    return Candidate(
        module=module,
        architecture=candidate("resnet18").architecture,
        preprocessing=IMAGES.preprocessing,
        num_classes=4,
    )
