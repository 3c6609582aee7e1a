"""What the components of z leave out: a ridge classifier on all features of the stem.

A logistic regression on z needs few labels, thousands of features under a ridge
penalty use many better, and the two err on different rows. A weighted mean of both
logits is a linear function again, so it makes one head. The labels also say which
features matter: each is scaled by how well it tells the classes apart, so that the
penalty is small where that is much.
"""

import copy

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV

from ._finetuning import LogisticHead, with_weights
from ._generation import LEAST_ROWS, device_of, filled, filled_up, transform_block
from .nets.blocks import BlockStem

MOST_ROWS = 2000
ALPHAS = np.logspace(-5, 2, 15)
SHARPNESS, TRUSTED_ROWS, PRIOR_ROWS = 6.0, 10, 5


def evidence(head, model, rows):
    """Yield what a head sees of consecutive rows: z, and the stem's features if wide.

    A few rows are filled up, see :func:`~skflowfm._generation.filled_up`, and windows
    further when the costly part is done.
    """
    device, size = device_of(model), transform_block(rows.row_shape)
    for start in range(0, len(rows), size):
        block = rows[start : start + size].to(device)
        with torch.inference_mode():
            seen = model.evidence(filled_up(block), head.in_features)
        yield filled(seen, LEAST_ROWS), len(block)


def answers(head, model, rows) -> torch.Tensor:
    """Return what a head says about rows, on the CPU.

    In double precision: of a row it is then the same in any place among others.
    """
    out, start = torch.empty(len(rows), head.out_features), 0
    exact = copy.deepcopy(head).double()
    with torch.inference_mode():
        for seen, n in evidence(head, model, rows):
            out[start : start + n] = exact(seen.double())[:n]
            start += n
    return out


def widened(head, model, rows, labelled, seed: int):
    """Return a head on z and the stem's features, or ``head`` if there is no stem.

    Its logits are a mean of those of ``head`` and of six times what a ridge classifier
    says, whose penalty is chosen by leaving one row out. (The scale of the features has
    seen that row. On recordings it is nearly the penalty that five folds choose which
    have not; labels at random look better than they are.) Beside the head's, the ridge
    classifier's weight is m / (m + 10), with m labelled rows for each class.

    Parameters
    ----------
    head : LogisticHead
        On z, fitted.
    model : JointModel
        Whose stem the ridge classifier sees.
    rows : Rows
        All rows.
    labelled : Labelled
        Which of them have an answer, and which. At most some 2,000 are looked at,
        every class as often as it comes.
    seed : int
        Seeds the choice of rows.
    """
    codes = labelled.target.numpy()
    lonely = len(codes) <= head.out_features  # nothing to choose a penalty with
    if lonely or not isinstance(model.stem, BlockStem):
        return head
    some = some_of_each(codes, MOST_ROWS, seed)
    device, wide = device_of(model), []
    for part in labelled.index[some].split(transform_block(rows.row_shape)):
        with torch.inference_mode():
            block = rows[part].to(device)
            wide.append(model.stem.wide(model.standardise(block)).cpu())
    wide = torch.cat(wide).double().numpy()
    expected = model.stem.deviation().square().cpu().double().numpy()
    scale = separation(wide, codes[some], expected)
    size = np.sqrt((scale**2 * wide.var(axis=0)).sum())
    scale /= max(size, 1.0)  # below, rows are all but the same
    ridge = RidgeClassifierCV(ALPHAS)
    ridge.fit(wide * scale, codes[some], labelled.weight.numpy()[some])
    weight = np.atleast_2d(ridge.coef_) * scale
    bias = np.atleast_1d(ridge.intercept_)
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
    share = len(codes) / (len(codes) + TRUSTED_ROWS * head.out_features)
    on_z = head.weight.detach().cpu().numpy()
    weight = np.concatenate([on_z, share * SHARPNESS * weight], axis=1)
    bias = head.bias.detach().cpu().numpy() + share * SHARPNESS * bias
    return with_weights(LogisticHead, weight / (1 + share), bias / (1 + share))


def separation(features, codes, expected):
    """Return the F statistic of each feature: variance between classes over within.

    Of a few rows of a class, features are alike within classes by chance. So five
    further rows count, which vary within theirs as expected.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        More rows than classes.
    codes : ndarray of shape (n,)
        Class of each row, 0 to n_classes - 1; every class has a row.
    expected : ndarray of shape (n_features,)
        Variance of each feature on rows of all classes.
    """
    count = np.bincount(codes)
    indicator = np.eye(len(count))[codes]
    centre = indicator.T @ features / count[:, None]
    within = np.square(features - centre[codes]).sum(axis=0) + PRIOR_ROWS * expected
    between = count @ np.square(centre - features.mean(axis=0))
    n_free = len(codes) - len(count) + PRIOR_ROWS
    return (between / (len(count) - 1)) / (within / n_free)


def some_of_each(codes, most: int, seed: int):
    """Return positions of about ``most`` rows, each class in proportion, none left out.

    All rows if they are not more.
    """
    if len(codes) <= most:
        return np.arange(len(codes))
    order = np.random.default_rng(seed).permutation(len(codes))
    kept = []
    for c in np.unique(codes):
        of_class = order[codes[order] == c]
        kept.append(of_class[: max(1, round(most * len(of_class) / len(codes)))])
    return np.sort(np.concatenate(kept))
