"""How much of each layer becomes zero."""

from collections.abc import Mapping

from torch import Tensor

from compressor.layers import first_meant


def erk(weights: Mapping[str, Tensor], amount: float) -> dict[str, float]:
    """Amounts by which a layer keeps weights in proportion to the sum of its dimensions over their product.

    Erdos-Renyi-Kernel (Evci et al. 2020, section 3.1): density (out + in + kh + kw) / (out in kh kw), scaled so that
    `amount` of all weights becomes zero. A layer that would be denser than full stays full, and the others make up.
    """
    full: set[str] = set()
    left = sum(weight.numel() for weight in weights.values()) * (1 - amount)
    while True:
        sparse = {name: w for name, w in weights.items() if name not in full}
        share = left - sum(weights[name].numel() for name in full)
        raw = {name: sum(w.shape) / w.numel() for name, w in sparse.items()}
        scale = share / sum(raw[name] * w.numel() for name, w in sparse.items()) if sparse else 0.0
        crowded = {name for name in sparse if raw[name] * scale > 1}
        if not crowded:
            return {name: 1 - max(0.0, raw[name] * scale) if name in sparse else 0.0 for name in weights}
        full |= crowded


def own_amounts(
    names: Mapping[str, str], amounts: Mapping[str, float], default: Mapping[str, float]
) -> dict[str, float]:
    """By parameter: the amount of the first glob that means its module, or else its default.

    `names` are the parameters' modules by the parameters' names.
    """
    own = {parameter: first_meant(module, amounts) for parameter, module in names.items()}
    return {parameter: default[parameter] if amount is None else amount for parameter, amount in own.items()}


def whole(amount: float) -> float:
    """All of an amount, where no schedule goes towards it."""
    return amount


def cubic(amount: float, done: float) -> float:
    """What of an amount is pruned when a part of the time is done (Zhu and Gupta 2017, equation 1, from 0)."""
    return amount * (1 - (1 - min(1.0, done)) ** 3)


def geometric(amount: float, round_: int, rounds: int) -> float:
    """What is pruned behind a round out of all, each taking the same part of what is left."""
    return 1 - (1 - amount) ** (round_ / rounds) if amount < 1 else float(round_ == rounds)
