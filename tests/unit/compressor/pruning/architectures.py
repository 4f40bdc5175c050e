"""A dozen unlike networks, small enough to be pruned in a second each."""

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.models.source import ModelSource, read_candidate
from contract.model import Architecture, ModelFormat, Preprocessing

#: Names of torchvision, with the side of the images they are given.
UNLIKE = {
    "resnet18": 64,
    "densenet121": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "efficientnet_b0": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "inception_v3": 96,
    "vit_b_32": 64,
    "swin_t": 64,
}


def candidate(name: str, *, side: int = 64, classes: int = 10, library: str = "torchvision") -> Candidate:
    """A network with seeded weights."""
    options: dict[str, int] = {"num_classes": classes}
    if name.startswith("vit"):
        options["img_size" if library == "timm" else "image_size"] = side
    source = ModelSource(
        architecture=Architecture.model_validate({"library": library, "name": name, "options": options}),
        format=ModelFormat.SAFETENSORS,
        preprocessing=Preprocessing(size=(side, side), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
    return read_candidate(source, None, seed=0)


def images(count: int, side: int) -> Tensor:
    """Noise of shape (count, 3, side, side), each image stronger than the one before."""
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return noise * torch.arange(1, count + 1).view(-1, 1, 1, 1)


def stirred(module: nn.Module, x: Tensor) -> nn.Module:
    """The network with nothing in it that hides a mistake: no zeros, no ones, and answers that depend on the image."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        if name.endswith("layer_scale"):
            parameter.data.fill_(0.5)
        elif parameter.dim() == 1:
            spread = 0.5 if name.endswith("weight") else 0.1
            parameter.data += spread * (torch.rand(parameter.shape, generator=generator) - 0.5)
        elif not parameter.any():
            parameter.data.normal_(0, 0.1, generator=generator)
    # Batch normalization as after training: otherwise some of these networks answer the same to every image.
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train().momentum = 1.0
    with torch.no_grad():
        module(x)
    return module.eval()
