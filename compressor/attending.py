"""Which of a network's attentions see one sequence alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from compressor.attention import SelfAttention
from compressor.measure.counting import evaluating


def attending_to_itself(network: nn.Module, example: Tensor) -> set[nn.Module]:
    """Torch's attentions that see one sequence as queries, keys and values whenever the network runs on `example`."""
    found: dict[nn.Module, bool] = {}

    def see(part: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        found[part] = found.get(part, True) and _is_plain_call(args, kwargs)

    with evaluating(network), _seeing(network, see):
        network(example)
    attentions = (part for part, plain in found.items() if plain and isinstance(part, nn.MultiheadAttention))
    return {part for part in attentions if SelfAttention.can_be(part)}


@contextmanager
def _seeing(network: nn.Module, see: Callable[..., None]) -> Iterator[None]:
    attentions = [part for part in network.modules() if isinstance(part, nn.MultiheadAttention)]
    handles = [part.register_forward_pre_hook(see, with_kwargs=True) for part in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_plain_call(args: Sequence[object], kwargs: dict[str, object]) -> bool:
    """Whether queries, keys and values are one sequence, without masks, and nobody asks for the weights."""
    same = len(args) == 3 and args[0] is args[1] is args[2]
    return same and kwargs == {"need_weights": False}
