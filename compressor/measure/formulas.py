"""What operators cost for which torch has no formula; nothing else, for a process that runs a file loads it too."""

import math
from collections.abc import Callable
from typing import Any

import torch


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    """Operations of attention's kernel on the CPU, of which torch knows none; shapes (batch, heads, tokens, width)."""
    scores = math.prod(query[:3]) * key[2]
    return 2 * scores * (query[3] + value[3])


#: What counts operations that torch has no formula for, by operator.
UNKNOWN_TO_TORCH: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
