"""What training makes small: functions of logits, each a mean over the batch."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.context import Context
from compressor.data.images import Batch, Images
from contract.methods import Recipe

#: From the student's logits (N, classes) and the batch they answer to a scalar.
Objective = Callable[[Tensor, Batch], Tensor]

#: From a batch to the teacher's logits (N, classes) for it.
Answers = Callable[[Batch], Tensor]

#: From the student's and the teacher's logits to a scalar.
Distance = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, batch: Batch, *, smoothing: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the labels, in nats; `smoothing` of each is spread over all classes.

    Label smoothing is that of Szegedy et al. 2016, section 7.
    """
    return F.cross_entropy(logits, batch.y if batch.soft is None else batch.soft, label_smoothing=smoothing)


def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch (Hinton et al. 2015, section 2).

    The factor keeps the gradients' size as the temperature changes.
    """
    told = F.log_softmax(teacher / temperature, dim=1)
    learnt = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(learnt, told, reduction="batchmean", log_target=True) * temperature**2


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the logits, over the batch and the classes (Ba and Caruana 2014, section 2.2)."""
    return F.mse_loss(student, teacher)


def distillation(distance: Distance, answers: Answers, *, alpha: float, labels: Objective = cross_entropy) -> Objective:
    """`alpha` times the distance to the teacher plus `1 - alpha` times what the labels say."""

    def objective(logits: Tensor, batch: Batch) -> Tensor:
        loss = alpha * distance(logits, answers(batch))
        return loss if alpha == 1 else loss + (1 - alpha) * labels(logits, batch)

    return objective


def answers_of(teacher: nn.Module, images: Images, recipe: Recipe, context: Context) -> Answers:
    """The teacher's logits: asked for once, or for every batch where the recipe changes the images."""
    if recipe.augment != "none" or recipe.mix != "none":
        return live_answers(teacher)
    context.progress(0.0, "asking the teacher")
    return cached_answers(teacher, images, batch_size=recipe.batch_size, device=context.device)


def cached_answers(teacher: nn.Module, images: Images, *, batch_size: int, device: torch.device) -> Answers:
    """The teacher's logits for every image, computed once: right as long as the images do not change."""
    with torch.inference_mode():
        parts = [teacher(batch.x.to(device)) for batch in images.batches(batch_size)]
    # A tensor of inference mode may not take part in a later backward pass; its clone may.
    logits = torch.cat(parts).clone()
    return lambda batch: logits[batch.index.to(device)]


def live_answers(teacher: nn.Module) -> Answers:
    """The teacher's logits for the batch as the student sees it, computed anew each time."""

    def answers(batch: Batch) -> Tensor:
        with torch.no_grad():
            logits: Tensor = teacher(batch.x)
        return logits

    return answers
