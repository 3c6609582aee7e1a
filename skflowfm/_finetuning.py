"""From a representation to an answer: the head, and the encoder trained under it."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import nn
from torch.nn import functional as F

from ._draws import hold_out, private_generator
from ._generation import TRANSFORM_BLOCK, device_of
from ._training import Budget, place, train
from .flow_matching import sample_source

BATCH_SIZE = 64
STEPS = 500, 2000
PASSES = 20
LEARNING_RATE = 1e-3
FEATURE_NOISE, DROPPED = 0.7, 0.5
TRUSTED_ROWS = 40
RIDGE_ALPHAS = np.logspace(-3, 3, 13)
MAX_ITER = 1000


# ------------------------------------------------------------------------- the heads
class LogisticHead(nn.Linear):
    """Logits of classes; its loss is the cross-entropy, one number per row."""

    def loss(self, answer, target):
        """Return the cross-entropy of each row; targets are class codes."""
        return F.cross_entropy(answer, target, reduction="none")


class RegressionHead(nn.Linear):
    """One number per row; its loss is the squared error over the targets' variance."""

    def __init__(self, n_components: int, n_targets: int = 1):
        super().__init__(n_components, n_targets)
        self.register_buffer("scale", torch.ones(()))

    def loss(self, answer, target):
        """Return the squared error of each row in units of the targets' variance."""
        return ((answer[:, 0] - target) / self.scale).square()


def with_weights(kind, weight, bias):
    """Return a head of this kind with these weights, drawing no random ones."""
    with torch.device("meta"):
        head = kind(weight.shape[1], weight.shape[0])
    head.to_empty(device="cpu")
    with torch.no_grad():
        head.weight.copy_(torch.as_tensor(weight))
        head.bias.copy_(torch.as_tensor(bias))
    return head


def logistic_head(z, codes, weight, C):
    """Return the head of a logistic regression, with a row of logits for each class.

    Parameters
    ----------
    z : ndarray of shape (n, n_components)
        Representations.
    codes : ndarray of int of shape (n,)
        Classes, 0, 1, ... without gaps.
    weight : ndarray of shape (n,)
        Weight of each row.
    C : float
        Inverse strength of the penalty.
    """
    model = LogisticRegression(C=C, max_iter=MAX_ITER).fit(z, codes, weight)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:
        weights = np.concatenate([-weights / 2, weights / 2])
        bias = np.concatenate([-bias / 2, bias / 2])
    return with_weights(LogisticHead, weights, bias)


def regression_head(z, target):
    """Return the head of a ridge regression, its penalty by leaving one row out.

    Parameters
    ----------
    z : ndarray of shape (n, n_components)
        Representations.
    target : ndarray of shape (n,)
        Answers.
    """
    model = RidgeCV(RIDGE_ALPHAS).fit(z.astype(np.float64), target)
    head = with_weights(RegressionHead, model.coef_[None], np.array([model.intercept_]))
    deviation = float(np.std(target))
    head.scale.fill_(deviation if deviation > 0 else 1.0)
    return head


def answers(head, z):
    """Return what the head says about representations, on the CPU."""
    with torch.inference_mode():
        return head(z.to(head.weight.device)).cpu()


# ------------------------------------------------------------- training the encoder
class Tuned(nn.Module):
    r"""Encoder and head on labelled rows, as one module for the training loop.

    The features get noise, components of z are dropped at random. The head keeps the
    penalty of the linear model that it comes from.

    Parameters
    ----------
    model : JointModel
        Gives the encoder, which is trained in place, and the axes, which stay.
    head : LogisticHead or RegressionHead
        Trained in place.
    penalty : float
        Times the squared weights of the head.
    """

    def __init__(self, model, head, penalty):
        super().__init__()
        self.encoder, self.axes, self.head = model.encoder, model.axes, head
        self.encode, self.penalty = model.encode, penalty

    def forward(self, features, kept, target, weight, t):
        z = self.axes(self.encode(features)) * kept
        loss = weight * self.head.loss(self.head(z), target)
        return loss + self.penalty * self.head.weight.square().sum(), None, None


def features_of(model, rows, index):
    """Return what the stem says about the rows at ``index``, on the CPU."""
    device = device_of(model)
    with torch.inference_mode():
        return torch.cat(
            [
                model.stem(model.standardise(rows[part].to(device))).cpu()
                for part in index.split(TRANSFORM_BLOCK)
            ]
        ).clone()


def noisy_draws(features, deviation, target, weight, n_components, device):
    """Return what the training loop draws its batches with.

    Parameters
    ----------
    features : Tensor of shape (n, ...)
        Of labelled rows.
    deviation : Tensor
        Of the noise on each feature.
    target, weight : Tensor of shape (n,)
        Answers, and weights of the rows.
    n_components : int
        Size of z.
    device : torch.device
        Where to train.
    """
    share = 1 / (1 - DROPPED)

    def draw(index, generator):
        shown = features[index].to(device)
        noise = sample_source(tuple(shown.shape), generator)
        kept = torch.rand(
            (len(index), n_components), generator=generator, device=device
        )
        return {
            "features": shown + deviation * noise,
            "kept": (kept >= DROPPED) * share,
            "target": target[index].to(device),
            "weight": weight[index].to(device),
            "t": index.to(device),
        }

    return draw


def tune(model, head, rows, index, target, weight, penalty, keep, groups, settings):
    r"""Train encoder and head on labelled rows, in place, and return the Training.

    Afterwards the weights go a part of the way only, from where they were to where
    training took them: with few rows training follows the noise in them, with many it
    learns what is in none of the pretraining. In between, the mean of both weights is
    better than either [1]_.

    Parameters
    ----------
    model : JointModel
        Pretrained.
    head : LogisticHead or RegressionHead
        Fitted on its representations.
    rows : Rows
        All rows.
    index : Tensor of int
        Which of them are labelled.
    target, weight : Tensor of shape (len(index),)
        Answers, and weights of the rows.
    penalty : float
        Of the head, divided by the number of rows.
    keep : float
        Which part of the way to go, 0 to 1.
    groups : ndarray or None
        Of the labelled rows; whole groups are held out for early stopping.
    settings : dict
        ``max_steps``, ``validation_fraction``, ``seed`` and ``verbose``.

    References
    ----------
    .. [1] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    device, seed = device_of(model), settings["seed"]
    tuned = place(Tuned(model, head, penalty / len(index)), str(device))
    start = [p.detach().clone() for p in trained_by(tuned)]
    features = features_of(model, rows, index)
    deviation = torch.zeros((), device=device)
    if not isinstance(model.stem, nn.Identity):
        deviation = FEATURE_NOISE * features.std(dim=0, correction=0).to(device)
    draw = noisy_draws(features, deviation, target, weight, model.n_components, device)
    steps = settings["max_steps"]
    if steps is None:
        steps = int(np.clip(PASSES * len(index) // BATCH_SIZE, *STEPS))
    budget = Budget(steps, None, BATCH_SIZE, LEARNING_RATE)
    positions, held_out = hold_out(
        len(index), settings["validation_fraction"], groups, private_generator(seed)
    )
    training = train(
        tuned,
        draw,
        positions,
        held_out,
        budget,
        seed,
        str(device),
        0.0,
        settings["verbose"],
    )
    with torch.no_grad():
        for now, then in zip(trained_by(tuned), start, strict=True):
            now.copy_(torch.lerp(then, now, keep))
    return training


def trained_by(tuned):
    """Return the parameters that training changes, in a fixed order."""
    return [*tuned.encoder.parameters(), *tuned.head.parameters()]


def part_of_the_way(n_rows: int, n_answers: int) -> float:
    """Return how far to trust training on so many rows: half at 40 for each answer."""
    per_answer = n_rows / n_answers
    return per_answer / (per_answer + TRUSTED_ROWS)
