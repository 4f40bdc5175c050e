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
        heads = projected.view(*query.shape[:2], 3, self.num_heads, self.head_dim)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(seen.transpose(1, 2).flatten(2)), None


#: What attends to its own input, its weights in one projection.
ATTENTION = (nn.MultiheadAttention, SelfAttention)
