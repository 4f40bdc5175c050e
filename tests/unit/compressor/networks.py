"""Small networks, images for them, and what ONNX Runtime answers."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.data.images import Images
from compressor.models.architectures import build
from contract.model import Architecture, Preprocessing

#: A vision transformer as small as they can be.
TINY_TRANSFORMER = Architecture(
    library="timm",
    name="vit_tiny_patch16_224",
    options={"num_classes": 4, "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
)


class Residual(nn.Module):
    """Every kind of layer that convolutional networks chain: 3x3, depthwise, 1x1, a sum, a concatenation, pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.pool = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.stem(x)
        y = self.project(self.depthwise(x))
        y += x
        y = torch.cat([self.pool(y), self.pool(x)], dim=1)
        return self.head(self.dropout(torch.flatten(self.average(y), 1)))


class Gated(nn.Module):
    """What light networks gate their activations with: hard swish, squeeze-and-excitation, SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1))
        self.gate = nn.Hardsigmoid()
        self.expand = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.SiLU(inplace=True))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.stem(x)
        x = self.expand(self.gate(self.squeeze(x)) * x)
        return self.head(self.average(x).flatten(1))


class ByContent(nn.Module):
    """What computes one thing or another, by what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C)."""
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


class Unusual(nn.Module):
    """What looks as if it could be fused and cannot, and what need not be a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 1, bias=False)
        self.after_sum = nn.BatchNorm2d(8)
        self.by_batch = nn.BatchNorm2d(8, track_running_stats=False)
        self.register_buffer("blur", torch.full((8, 1, 3, 3), 1 / 9))
        self.register_buffer("table", torch.linspace(-1, 1, 6).reshape(1, 6))
        self.of_table = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.conv(x)
        x = self.after_sum(self.twice(torch.relu(self.twice(x))) + x)
        x = self.by_batch(self.twice(x))
        x = nn.functional.conv2d(x, self.blur, None, 2, 1, groups=8)
        return self.head(x.mean((2, 3)) + self.of_table(self.table))


class Shared(nn.Module):
    """A convolution under two names, and two linear layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.once = nn.Conv2d(16, 16, 3, padding=1)
        self.again = self.once
        self.one, self.other, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        x = self.again(self.once(self.stem(x).relu()).relu()).relu()
        return self.head(self.other(self.one(x.mean((2, 3))).relu()).relu())


class Recurrent(nn.Module):
    """A recurrent layer over the rows of an image, and a linear one."""

    def __init__(self, layer: nn.LSTM | nn.GRU) -> None:
        super().__init__()
        self.rnn = layer
        self.head = nn.Linear(layer.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), the layer's input size being 3 W, to (N, 4)."""
        rows, _ = self.rnn(x.permute(0, 2, 1, 3).flatten(2))
        return self.head(rows[:, -1])


def with_statistics(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with batch statistics and scales as training leaves them, the negative ones too."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.weight.data.uniform_(-0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.3, generator=generator)
    return module.eval()


def candidate_of(
    module: nn.Module, *, size: int = 8, num_classes: int = 4, architecture: Architecture | None = None
) -> Candidate:
    """A candidate; one that no library builds where no architecture is given."""
    return Candidate(
        module=module.eval(),
        architecture=architecture or Architecture(name="small"),
        preprocessing=Preprocessing(size=(size, size), mean=(0.5,) * 3, std=(0.25,) * 3),
        num_classes=num_classes,
        classes=tuple(f"class {i}" for i in range(num_classes)),
    )


def residual(seed: int = 0) -> Candidate:
    """A small residual network with a life behind it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return candidate_of(with_statistics(Residual(), seed))


def unusual(seed: int = 0) -> Candidate:
    """A small network with traps."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return candidate_of(with_statistics(Unusual(), seed))


def shared(seed: int = 0) -> Candidate:
    """A small network with weights that are read twice."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return candidate_of(Shared())


def gated(seed: int = 0) -> Candidate:
    """A small network with gates."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return candidate_of(with_statistics(Gated(), seed))


def named(name: str, *, size: int = 64, num_classes: int = 10) -> Candidate:
    """A torchvision network with seeded weights and batch statistics."""
    architecture = Architecture(name=name, options={"num_classes": num_classes})
    module = with_statistics(build(architecture))
    return candidate_of(module, size=size, num_classes=num_classes, architecture=architecture)


def images_for(candidate: Candidate, count: int = 32, seed: int = 0) -> Images:
    """Noise with labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, *candidate.input_shape), dtype=torch.uint8, generator=generator)
    return Images(pixels, torch.arange(count) % candidate.num_classes, candidate.preprocessing)


def inputs_for(candidate: Candidate, count: int = 32, seed: int = 0) -> Tensor:
    """The same noise, normalized."""
    images = images_for(candidate, count, seed)
    return images.normalized(images.pixels)


def answers(module: nn.Module, x: Tensor) -> Tensor:
    """What a module says to a batch."""
    with torch.no_grad():
        logits: Tensor = module(x)
    return logits


def onnx_answers(path: Path, x: Tensor) -> Tensor:
    """What ONNX Runtime says to a batch."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(["logits"], {"image": x.numpy()})[0]))
