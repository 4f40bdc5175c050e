"""Attention whose heads need not fill the embedding, as torch's own must."""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """What `nn.MultiheadAttention` computes of a sequence with itself (Vaswani et al. 2017), with any number of heads.

    It is called in the same way, batch first, gives no weights back, and its parameters bear the same names:
    `in_proj_weight` of shape (3 * heads * width, embedding), queries before keys before values; `out_proj.weight` of
    shape (embedding, heads * width).
    """

    def __init__(
        self, *, num_heads: int, head_dim: int, weight: nn.Parameter, bias: nn.Parameter | None, out_proj: nn.Linear
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.dropout = num_heads, head_dim, 0.0
        self.in_proj_weight = weight
        self.in_proj_bias: nn.Parameter | None
        self.register_parameter("in_proj_bias", bias)
        self.out_proj = out_proj

    @staticmethod
    def can_be(attention: nn.MultiheadAttention) -> bool:
        """Whether torch's attention has nothing that this one lacks."""
        plain = attention._qkv_same_embed_dim and attention.bias_k is None and not attention.add_zero_attn
        return plain and attention.batch_first

    @classmethod
    def of(cls, attention: nn.MultiheadAttention) -> Self:
        """The same attention, over the same parameters. Raises `ValueError` where it is more than self-attention."""
        if not cls.can_be(attention):
            raise ValueError("keys and values have projections or entries of their own, or batches come second")
        made = cls(
            num_heads=attention.num_heads,
            head_dim=attention.head_dim,
            weight=attention.in_proj_weight,
            bias=attention.in_proj_bias,
            out_proj=attention.out_proj,
        )
        made.dropout = attention.dropout
        return made.train(attention.training)

    def forward(self, query: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """Shapes (batch, tokens, embedding)."""
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(_attended(projected, self.num_heads, self.head_dim, dropout=dropout)), None


class OpenAttention(nn.Module):
    """`SelfAttention` whose projections `in_proj` and `out_proj` are layers, for others to stand in their places."""

    def __init__(self, attention: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.dropout = attention.num_heads, attention.head_dim, attention.dropout
        out_proj = attention.out_proj
        self.in_proj: nn.Module = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj: nn.Module = _linear(out_proj.get_parameter("weight"), out_proj._parameters["bias"])
        self.train(attention.training)

    @classmethod
    def of(cls, attention: nn.MultiheadAttention | SelfAttention) -> Self:
        """The same attention, over the same parameters. Raises `ValueError` as `SelfAttention.of` does."""
        return cls(attention if isinstance(attention, SelfAttention) else SelfAttention.of(attention))

    def forward(self, query: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        """Shapes (batch, tokens, embedding)."""
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(_attended(self.in_proj(query), self.num_heads, self.head_dim, dropout=dropout)), None


def _attended(projected: Tensor, heads: int, width: int, *, dropout: float) -> Tensor:
    """From queries, keys and values (batch, tokens, 3 * heads * width) to (batch, tokens, heads * width)."""
    parts = projected.view(*projected.shape[:2], 3, heads, width)
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = weight
    layer.register_parameter("bias", bias)
    return layer


#: What attends to its own input, its weights in one projection.
ATTENTION = (nn.MultiheadAttention, SelfAttention)
