"""FlowFMOverSampler: the sampler as one of imbalanced-learn's own over-samplers.

imbalanced-learn's ``Pipeline`` takes a :class:`~skflowfm.FlowFMSampler` as it is. This
one is for code that asks for its base class or relies on its whole contract. It needs
the extra ``imblearn``; nothing else of the package imports it.
"""

from numbers import Integral
from typing import ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from ._checks import seed_of
from ._columns import as_codes
from ._sampler import FlowFMSampler

try:
    from imblearn.over_sampling.base import BaseOverSampler
    from imblearn.utils import check_target_type
except ImportError as error:
    raise ImportError(
        f"skflowfm.imblearn needs imbalanced-learn ({error}). Install the extra: "
        "pip install 'skflowfm[imblearn]'. FlowFMSampler itself works without."
    ) from error


class FlowFMOverSampler(BaseOverSampler):
    """Over-sample windows or tables with a jointly trained flow.

    Parameters
    ----------
    sampler : FlowFMSampler, default=None
        Cloned and fitted on the rows that are resampled. None is ``FlowFMSampler()``.
    sampling_strategy : str, float, dict or callable, default="auto"
        imbalanced-learn's own; replaces that of ``sampler``.
    random_state : int, RandomState, Generator or None, default=None
        Given, replaces that of ``sampler``.

    Attributes
    ----------
    sampler_ : FlowFMSampler
        Fitted; has ``is_synthetic_`` and ``parent_indices_``.
    sampling_strategy_ : dict
        {class: number of new rows}.

    Notes
    -----
    Sparse tables are made dense for the flow and come back sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm import FlowFMSampler, FlowFMTransformer
    >>> from skflowfm.imblearn import FlowFMOverSampler
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> y = np.repeat([0, 1], [30, 10])
    >>> sampler = FlowFMSampler(FlowFMTransformer(max_steps=5), quality=1)
    >>> X_new, y_new = FlowFMOverSampler(sampler, random_state=0).fit_resample(X, y)
    >>> np.unique(y_new, return_counts=True)
    (array([0, 1]), array([30, 30]))
    """

    _parameter_constraints: ClassVar = {
        "sampler": [FlowFMSampler, None],
        "sampling_strategy": BaseOverSampler._parameter_constraints[
            "sampling_strategy"
        ],
        "random_state": [
            Integral,
            np.random.RandomState,
            np.random.Generator,
            None,
        ],
    }

    def __init__(self, sampler=None, *, sampling_strategy="auto", random_state=None):
        super().__init__(sampling_strategy=sampling_strategy)
        self.sampler = sampler
        self.random_state = random_state

    def _check_X_y(self, X, y):
        """As imbalanced-learn's, but windows of three dimensions pass, and frames stay.

        Columns of whole numbers and truth values can then be drawn as what they are.
        """
        y, one_vs_all = check_target_type(y, indicate_one_vs_all=True)
        checked, y = validate_data(
            self,
            as_codes(X),
            y,
            reset=True,
            accept_sparse=["csr", "csc"],
            allow_nd=True,
        )
        is_dense_frame = hasattr(X, "dtypes") and not sparse.issparse(checked)
        return X if is_dense_frame else checked, y, one_vs_all

    def _fit_resample(self, X, y):
        sampler = FlowFMSampler() if self.sampler is None else clone(self.sampler)
        there = dict(zip(*np.unique(y, return_counts=True), strict=True))
        totals = {c: there[c] + n for c, n in self.sampling_strategy_.items()}
        sampler.set_params(sampling_strategy=totals)
        if self.random_state is not None:
            sampler.set_params(random_state=seed_of(self.random_state))
        dense = X.toarray() if sparse.issparse(X) else X
        X_new, y_new = sampler.fit_resample(dense, y)
        self.sampler_ = sampler
        return (X.__class__(X_new) if sparse.issparse(X) else X_new), y_new

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
