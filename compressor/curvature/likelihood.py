"""How a network's likelihood hangs on what is within: derivatives for answers that are drawn as the network gives them.

So no label is needed, and the mean square of a derivative is Fisher's information: half of it is what the loss rises by
where the thing moves by one.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.measure.counting import evaluating, without_gradients

#: Given how many images pass: what has to be open while they do, forward and backward.
Watching = Callable[[int], AbstractContextManager[None]]


def differentiated(network: nn.Module, batches: Iterable[Tensor], watching: Watching, *, seed: int) -> int:
    """Run all images forward, and the log-likelihood of an answer to each backward; how many there were."""
    random, count = torch.Generator().manual_seed(seed % 2**63), 0
    # Derivatives by parameters would take as long as those that are wanted.
    with evaluating(network), without_gradients(network), torch.enable_grad():
        for x in batches:
            with watching(len(x)):
                # Some networks begin with what works in place, which no leaf allows.
                logits = network(x.detach().requires_grad_().clone())
                answer = torch.multinomial(logits.detach().softmax(1).cpu(), 1, generator=random)[:, 0]
                loss = F.cross_entropy(logits, answer.to(logits.device), reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]
            count += len(x)
    return count
