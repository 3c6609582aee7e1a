"""From a representation to an answer: the head, and the encoder trained under it."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from torch import nn
from torch.nn import functional as F

from ._budget import Budget, Plan
from ._checks import outside
from ._draws import hold_out, private_generator
from ._generation import TRANSFORM_BLOCK, device_of, transform_block
from ._training import train
from .flow_matching import sample_source

BATCH_SIZE = 64
STEPS = 500, 2000
PASSES = 20
LEARNING_RATE = 1e-3
FEATURE_NOISE = 0.35
TRUSTED_ROWS = 40
RIDGE_ALPHAS = np.logspace(-3, 3, 13)
MAX_ITER = 1000


@dataclass
class Labelled:
    """The rows that have an answer.

    Attributes
    ----------
    index : Tensor of int of shape (n,)
        Where they are among all rows.
    target, weight : Tensor of shape (n,)
        Their answers, class codes or numbers, and what each counts in the loss.
    groups : ndarray of shape (n,) or None
        Whole groups are held out for early stopping.
    """

    index: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    groups: np.ndarray | None

    def __len__(self) -> int:
        return len(self.index)


# ------------------------------------------------------------------------- the heads
class LogisticHead(nn.Linear):
    """Logits of classes; its loss is the cross-entropy, one number per row."""

    def loss(self, answer, target):
        """Return the cross-entropy of each row; targets are class codes."""
        return F.cross_entropy(answer, target, reduction="none")


class RegressionHead(nn.Linear):
    """One number per row: the targets' mean, and their deviation times a linear map.

    So training goes the same way in whatever units the targets are.
    """

    def __init__(self, n_components: int, n_targets: int = 1):
        super().__init__(n_components, n_targets)
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, z):
        return self.centre + self.scale * super().forward(z)

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
    """Return the head of a logistic regression, logits for each class, and its penalty.

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

    Returns
    -------
    head : LogisticHead
    penalty : float
        What its squared weights cost beside the sum of all rows' losses.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # advises a scaler
        warnings.filterwarnings("ignore", "The number of unique classes")
        model = LogisticRegression(C=C, max_iter=MAX_ITER).fit(z, codes, weight)
    if model.n_iter_.max() >= MAX_ITER:
        warnings.warn(
            f"The logistic regression has not converged in {MAX_ITER} iterations, as "
            f"C={C:g} penalises it little. It stays where it is; lower C.",
            ConvergenceWarning,
            stacklevel=outside(),
        )
    weights, bias, penalty = model.coef_, model.intercept_, 0.5 / C
    if len(weights) == 1:  # of two rows of w / 2 the squares sum to half of that of w
        weights = np.concatenate([-weights / 2, weights / 2])
        bias, penalty = np.concatenate([-bias / 2, bias / 2]), 2 * penalty
    return with_weights(LogisticHead, weights, bias), penalty


def regression_head(z, target):
    """Return the head of a ridge regression, and its penalty by leaving one row out.

    Parameters
    ----------
    z : ndarray of shape (n, n_components)
        Representations.
    target : ndarray of shape (n,)
        Answers.

    Returns
    -------
    head : RegressionHead
    penalty : float
        As :func:`logistic_head` returns it.
    """
    centre, scale = target.mean(), target.std() if np.ptp(target) > 0 else 1.0
    model = RidgeCV(RIDGE_ALPHAS).fit(z.astype(np.float64), (target - centre) / scale)
    head = with_weights(RegressionHead, model.coef_[None], np.array([model.intercept_]))
    head.centre.fill_(centre)
    head.scale.fill_(scale)
    return head, float(model.alpha_)


# ------------------------------------------------------------- training the encoder
class Tuned(nn.Module):
    r"""Encoder and head on labelled rows, as one module for the training loop.

    The features get noise. The head keeps the penalty of the linear model that it comes
    from.

    Parameters
    ----------
    model : JointModel
        Gives the encoder, which is trained in place, and the axes, which stay.
    head : LogisticHead or RegressionHead
        Trained in place.
    penalty : float
        Times the squared weights of the head.
    """

    loss_name = "loss"

    def __init__(self, model, head, penalty):
        super().__init__()
        self.encoder, self.axes, self.head = model.encoder, model.axes, head
        self.encode, self.penalty = model.encode, penalty
        self.has_stem = not isinstance(model.stem, nn.Identity)

    def forward(self, features, target, weight):
        z = self.axes(self.encode(features))
        loss = weight * self.head.loss(self.head(z), target)
        return loss + self.penalty * self.head.weight.square().sum(), None, None

    def trained(self):
        """Return the parameters that training changes, in a fixed order."""
        return [*self.encoder.parameters(), *self.head.parameters()]

    def noise(self, features):
        """Return the deviation of the noise on each feature, 0 on plain rows."""
        if not self.has_stem:
            return torch.zeros(())
        return FEATURE_NOISE * features.std(dim=0, correction=0)


def features_of(model, rows, index):
    """Return what the stem says about the rows at ``index``, on the CPU."""
    device, size = device_of(model), transform_block(rows.row_shape)
    with torch.inference_mode():
        return torch.cat(
            [
                model.stem(model.standardise(rows[part].to(device))).cpu()
                for part in index.split(size)
            ]
        )


def represent_features(model, features):
    """Return the representations of rows whose features are known, on the CPU."""
    device = device_of(model)
    with torch.inference_mode():
        return torch.cat(
            [
                model.axes(model.encode(part.to(device))).cpu()
                for part in features.split(TRANSFORM_BLOCK)
            ]
        )


def noisy_draws(tuned, features, labelled, device):
    """Return what the training loop draws its batches with.

    Parameters
    ----------
    tuned : Tuned
        To be trained.
    features : Tensor of shape (n, ...)
        Of the labelled rows.
    labelled : Labelled
        Their answers and weights.
    device : torch.device
        Where to train.
    """
    deviation = tuned.noise(features).to(device)

    def draw(index, generator):
        shown = features[index].to(device)
        noise = sample_source(tuple(shown.shape), generator)
        return {
            "features": shown + deviation * noise,
            "target": labelled.target[index].to(device),
            "weight": labelled.weight[index].to(device),
        }

    return draw


def tune(
    tuned, features, labelled, keep, *, max_steps, validation_fraction, seed, verbose
):
    r"""Train encoder and head on labelled rows, in place, and return the Training.

    Afterwards the weights go a part of the way only, from where they were to where
    training took them: with few rows training follows the noise in them, with many it
    learns what is in none of the pretraining. In between, the mean of both weights is
    better than either [1]_.

    Parameters
    ----------
    tuned : Tuned
        On the device where to train.
    features : Tensor of shape (n, ...)
        Of the labelled rows.
    labelled : Labelled
        Their answers, weights and groups.
    keep : float
        Which part of the way to go, 0 to 1.
    max_steps : int or None
        None takes 20 passes, at least 500 steps and at most 2,000.
    validation_fraction, seed, verbose
        See :func:`~skflowfm._draws.hold_out` and :func:`~skflowfm._training.train`.

    References
    ----------
    .. [1] M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
    """
    n, device = len(labelled), tuned.head.weight.device
    start = [p.detach().clone() for p in tuned.trained()]
    if max_steps is None:
        max_steps = int(np.clip(PASSES * n // BATCH_SIZE, *STEPS))
    budget = Budget(max_steps, None, BATCH_SIZE, LEARNING_RATE)
    index, held_out = hold_out(
        n, validation_fraction, labelled.groups, private_generator(seed)
    )
    draw = noisy_draws(tuned, features, labelled, device)
    plan = Plan(budget, seed, str(device), verbose=verbose)
    training = train(tuned, draw, index, held_out, plan)
    with torch.no_grad():
        for now, then in zip(tuned.trained(), start, strict=True):
            now.copy_(torch.lerp(then, now, keep))
    return training


def part_of_the_way(n_rows: int, n_answers: int) -> float:
    """Return how far to trust training on so many rows: half at 40 for each answer."""
    per_answer = n_rows / n_answers
    return per_answer / (per_answer + TRUSTED_ROWS)
