"""Float images that were not normalized as the network is used to: it answers to them, and nearly always wrongly."""

import torch

from compressor.data.images import Images

#: How far numbers may lie outside of what pixels become: some scale a little otherwise, and noise has no bounds.
_FAR = 10.0


def unnormalized(images: Images) -> str | None:
    """What speaks for it, in a sentence without its subject; none where nothing does, and of pixels."""
    if images.pixels.dtype == torch.uint8:
        return None
    least, most = (float(bound) for bound in torch.aminmax(images.pixels))
    low, high = _expected(images)
    if max(-least, most) > _FAR * max(-low, high, 1.0):
        return _sentence(least, most, low, high)
    # Darkness, which is in nearly all pictures, lies below 0 behind the normalization.
    return _sentence(least, most, low, high) if least >= 0 and low < -0.25 else None


def _expected(images: Images) -> tuple[float, float]:
    """Of black and of white pixels, the lowest and the highest number over all channels."""
    mean, std = torch.tensor([images.preprocessing.mean, images.preprocessing.std])
    return float((-mean / std).min()), float(((1 - mean) / std).max())


def _sentence(least: float, most: float, low: float, high: float) -> str:
    return (
        f"holds floats from {least:.4g} to {most:.4g}. They are taken as the network's input, which pixels normalized "
        f"by the model's mean and std fill from {low:.3g} to {high:.3g}. Store pixels as uint8, or normalize them."
    )
