"""Which of many scores stay."""

import pytest
import torch

from compressor.sparsity.cutting import Cut, ranked
from contract.methods.prune import PruneWeights


@pytest.mark.parametrize("amount", [0.0, 0.003, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("values", [2, 5, 1_000_000])
def test_exactly_so_many_go_and_none_is_higher_than_one_that_stays(amount: float, values: int) -> None:
    # Given a thousand scores, of which many are equal, or none
    drawn = torch.randint(values, (1000,), generator=torch.Generator().manual_seed(0))
    scores = {"fc.weight": ranked(drawn.float().view(20, 50), None)}
    # When a part of them goes
    step = PruneWeights(amount=amount)
    kept = Cut.of(step, scores, {"fc.weight": "fc"}).kept(scores)["fc.weight"].flatten()
    # Then it is exactly that part, and the lowest
    assert int(kept.sum()) == round(1000 * (1 - amount))
    if 0 < amount < 1:
        assert drawn[~kept].max() <= drawn[kept].min()
