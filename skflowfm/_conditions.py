"""From labelled rows, and others that are probably like them, to q(z | class)."""

import numpy as np
import torch

from ._density import RepresentationDensity
from ._device import place
from ._finetuning import Labelled, logistic_head
from ._generation import device_of, represent
from ._validation import check_rows
from ._wide import evidence, widened

STRENGTH = 1.0
LITTLE = 0.5


def checked_pool(sampler, X_unlabelled, y):
    """Return a sampler's rows without labels, categories as codes, or None."""
    if X_unlabelled is None:
        return None
    if y is None:
        raise ValueError("X_unlabelled needs y; without y put all rows in X.")
    try:
        coded = sampler._columns.codes_of(X_unlabelled)
        return check_rows(sampler, coded, reset=False)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        text = str(error)
        text = text[2:] if text.startswith("X ") else f"is refused: {text}"
        raise kind(f"X_unlabelled {text}") from None


def check_groups_of_both(groups, n, pool):
    """Raise unless there are as many groups as rows, those without labels included."""
    if groups is None or pool is None or np.shape(groups)[:1] == (n + len(pool),):
        return
    raise ValueError(
        f"groups must have one entry per row of X and of X_unlabelled, {n} + "
        f"{len(pool)}, got shape {np.shape(groups)}."
    )


def density_of(transformer, rows, y, pool, seed):
    """Fit q(z) or q(z | class) on the representations of rows.

    Parameters
    ----------
    transformer : FlowFMTransformer
        Fitted.
    rows : Rows
        Rows, labelled or not.
    y : ndarray of shape (n,) or None
        Their labels.
    pool : Rows or None
        Rows without labels. Each is taken for one of the class that a linear
        classifier on ``rows`` gives it.
    seed : int
        Seed of the fit.

    Returns
    -------
    density : RepresentationDensity
    classes : ndarray or None
        Distinct labels in ascending order.
    """
    model = transformer.module_
    z, classes = represent(model, rows), None
    codes = torch.zeros(len(rows), dtype=torch.long)
    if y is not None:
        classes, inverse = np.unique(y, return_inverse=True)
        codes = torch.from_numpy(inverse)
    n = len(z)
    if pool is not None:
        z_pool, likely = likely_classes(model, rows, z, codes, pool, seed)
        z, codes = torch.cat([z, z_pool]), torch.cat([codes, likely])
    gain = float(model.axes.gain)
    wide = transformer.health_.get("left_open", 1.0) < LITTLE
    return RepresentationDensity(z, codes, gain, seed, n, wide), classes


def likely_classes(model, rows, z, codes, pool, seed):
    """Return the representation and the likeliest class of each row of the pool."""
    if not codes.any():
        return represent(model, pool), torch.zeros(len(pool), dtype=torch.long)
    labelled = Labelled(torch.arange(len(rows)), codes, torch.ones(len(rows)), None)
    weight = labelled.weight.numpy()
    head, _ = logistic_head(z.numpy(), codes.numpy(), weight, STRENGTH)
    head = place(widened(head, model, rows, labelled, seed), device_of(model))
    z_pool, likely = [], []
    with torch.inference_mode():
        for seen, n in evidence(head, model, pool):
            z_pool.append(seen[:n, : model.n_components].cpu().clone())
            likely.append(head(seen)[:n].argmax(dim=1).cpu())
    return torch.cat(z_pool), torch.cat(likely)
