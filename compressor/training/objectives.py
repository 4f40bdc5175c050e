"""What training makes small: functions of logits, each a mean over the batch."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from compressor.data.images import Batch
from compressor.training.answers import Answers

#: From the student's logits (N, classes) and the batch they answer to a scalar.
Objective = Callable[[Tensor, Batch], Tensor]

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
