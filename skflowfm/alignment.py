r"""Agreement of two views: the optional second term of the training loss.

The flow loss asks the encoder to *describe* a row. An alignment term asks it to give
two views of the same row the same description, and different rows different ones, which
is what a linear classifier needs. A view is an augmented copy; for windows, the
second is one of a near row (:class:`skflowfm._positives.CachedViews`). The term is our
addition; weight 0 removes it.

References
----------
.. [1] A. van den Oord, Y. Li and O. Vinyals, "Representation Learning with
       Contrastive Predictive Coding", arXiv:1807.03748 (InfoNCE).
.. [2] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A Simple Framework for
       Contrastive Learning of Visual Representations", ICML 2020 (this form of it).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(z_a: Tensor, z_b: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Cross-entropy of picking a row's other view among all views of the batch.

    Parameters
    ----------
    z_a, z_b : Tensor of shape (n, n_components)
        Representations of two views; row i of both comes from the same row of data,
        or from near ones.
    temperature : float, default=0.5
        Divides the cosine similarities, above 0. Lower concentrates on the hardest
        negatives.

    Returns
    -------
    Tensor of shape ()
        :math:`\log(2n - 1)` for representations that carry nothing, more where views
        disagree; 0 for a batch of one row, which has no negatives.

    Raises
    ------
    ValueError
        For a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got temperature={temperature}.")
    n = len(z_a)
    if n < 2:
        return z_a.sum() * 0.0
    z = F.normalize(torch.cat([z_a, z_b]), dim=1)  # (2n, n_components)
    similarity = z @ z.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    similarity = similarity.masked_fill(itself, float("-inf"))
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity, partner)
