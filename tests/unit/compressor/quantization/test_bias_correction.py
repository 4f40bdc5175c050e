"""What quantization shifts on average, taken back."""

import torch
from torch import Tensor, nn

from compressor.candidate import Candidate
from compressor.methods.quantize_static import apply
from compressor.quantization.bias_correction import uncorrectable
from compressor.quantization.graph import capture
from compressor.quantization.products import products
from contract.methods.quantize import QuantizeStatic
from tests.unit.compressor.networks import answers, candidate_of, with_statistics
from tests.unit.compressor.quantization.drafts import compared, drafting_of, gaps
from tests.unit.compressor.quantization.steps import Told, with_images


class _Kinds(nn.Module):
    """Batch normalization behind a convolution, a bias of its own, neither, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.normalized = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.biased = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU())
        self.bare = nn.Conv2d(6, 6, 1, bias=False)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 4)."""
        return self.head(self.bare(self.biased(self.normalized(x))).mean((2, 3)))


def kinds() -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return candidate_of(with_statistics(_Kinds()))


def test_every_channel_has_its_mean_again() -> None:
    # Given a network whose weights have three bits, quantized with and without correction
    plain, mended = (drafting_of(kinds(), correct_bias=correct) for correct in (False, True))
    before, after = (compared(drafting, drafting.draft(list(drafting.codes))) for drafting in (plain, mended))
    # Then what a layer gives is on average what the float one gives, in every channel, whatever takes the correction
    for layer in ("normalized.0", "biased.0", "head"):
        assert float(gaps(before[layer]).max()) > 2e-3
        assert float(gaps(after[layer]).max()) < 1e-5
    # And a layer that has nowhere to put it is left as it is
    assert float(gaps(after["bare"]).max()) > 0.02


def test_weights_and_answers_stay_until_the_plan_is_made() -> None:
    # Given a network
    candidate = kinds()
    drafting = drafting_of(candidate, correct_bias=True)
    before = answers(candidate.module, drafting.batch)
    # When plans are made on trial, then the network is as it was
    draft = drafting.draft(list(drafting.codes))
    assert set(draft.biases) == {"normalized.1.bias", "biased.0.bias", "head.bias"}
    assert torch.equal(answers(candidate.module, drafting.batch), before)
    # And what would be deployed has the corrected biases: it answers as the run side by side does
    assert torch.allclose(answers(drafting.trial(draft), drafting.batch), draft.logits.coded, atol=0.02)


def test_the_step_corrects_the_module_and_says_where_it_cannot() -> None:
    # Given a network with a convolution that has neither bias nor normalization
    candidate, told = kinds(), Told()
    graph = capture(candidate.module, candidate.input_shape)
    assert uncorrectable(graph, products(graph)) == ["bare"]
    shift, bias = candidate.module.normalized[1].bias.clone(), candidate.module.head.bias.clone()
    # When it is quantized
    made = apply(candidate, QuantizeStatic(), told.context(with_images(candidate)))
    # Then biases and shifts are other ones, and the step names the layer
    assert not torch.equal(made.module.normalized[1].bias, shift)
    assert not torch.equal(made.module.head.bias, bias)
    assert told.records["bias_not_corrected"] == ["bare"]
    # And without correction they stay
    plain = apply(kinds(), QuantizeStatic(correct_bias=False), with_images(candidate))
    assert torch.equal(plain.module.normalized[1].bias, shift)
