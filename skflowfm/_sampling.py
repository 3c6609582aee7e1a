"""What a fitted sampler draws, on request."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ._checks import check_count, check_number, off_torch, seed_of
from ._generation import (
    ROWS_AT_A_TIME,
    check_drawn,
    decode,
    device_of,
    represent,
    rows_at_a_time,
    score,
)
from ._imputation import (
    check_known,
    complete,
    numbers_of,
    of_donors,
    put_in,
    with_zeros,
)
from ._resampling import as_container, check_new_counts, codes_of, labels_of, rows_like
from ._standing import module_of
from ._steps import check_quality, steps_of
from ._validation import Rows, check_rows, check_torch_settings


def counted(draw, blocks):
    """Yield what ``draw(block, first)`` returns, ``first`` rows having gone before."""
    first = 0
    for block in blocks:
        yield draw(block, first)
        first += len(block)


class Sampling:
    """The methods of :class:`FlowFMSampler` that draw; ``fit`` is there."""

    def sample(self, n_samples=1, *, y=None, class_counts=None, random_state=None):
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            How many; not used if ``y`` or ``class_counts`` says it.
        y : label or array-like of shape (n,), default=None
            Class of each row to draw; a single label stands for ``n_samples`` rows.
        class_counts : dict or Series, default=None
            {class: number of rows}; the rows come class by class, in its order.
        random_state : int, RandomState, Generator or None, default=None
            None uses the estimator's, so an estimator with an integer seed draws the
            same rows at each call.

        Returns
        -------
        X : ndarray of shape (n, n_channels, n_timesteps) or (n, n_features), float32
            A DataFrame where ``fit`` saw columns of categories. Without ``y`` and
            ``class_counts``, classes come as often as in ``fit``, the pool's too.
        y : ndarray of shape (n,)
            Only with ``class_counts``.

        Raises
        ------
        ValueError
            For a class that ``fit`` never saw, labels when ``fit`` had none, a negative
            count, or both ``y`` and ``class_counts``.
        """
        check_is_fitted(self)
        if y is not None and class_counts is not None:
            raise ValueError("Give y or class_counts, not both.")
        check_count("n_samples", n_samples, optional=False)
        seed = seed_of(self.random_state if random_state is None else random_state)
        if class_counts is not None:
            self._check_labelled("class_counts")
            counts = check_new_counts(class_counts, self.classes_, "class_counts")
            y = labels_of(counts, self.classes_)
            return self._draw(codes_of(y, self.classes_), seed), y
        if y is not None:
            self._check_labelled("y")
            if np.ndim(y) == 0:
                y = np.repeat(np.asarray([y]), n_samples)
            return self._draw(codes_of(column_or_1d(off_torch(y)), self.classes_), seed)
        return self._draw(self._density.draw_codes(n_samples, seed), seed)

    def sample_like(self, X, *, diversity=0.0, random_state=None):
        """Draw one variant of each row.

        Parameters
        ----------
        X : array-like with rows as in ``fit``
            Rows to vary.
        diversity : float, default=0.0
            At 0 a variant has the representation of its row and differs by the source
            draw. Above, its representation moves towards one of the five fitted rows
            that are nearest (itself, if it was fitted, is one), by a random share of
            the way, at most this; above 1 it may go beyond.
        random_state : int, RandomState, Generator or None, default=None
            As in :meth:`sample`.

        Returns
        -------
        X_new : ndarray of the shape of ``X``, float32, or DataFrame as in ``sample``
        """
        check_is_fitted(self)
        check_number("diversity", diversity, 0)
        seed = seed_of(self.random_state if random_state is None else random_state)
        return self._variants(X, diversity, seed)

    def interpolate(self, X_a, X_b, n_samples=5, *, random_state=None):
        """Draw rows on the way from one row to another, by their representations.

        All rows of a pair share one source draw, so that only z changes along the way.

        Parameters
        ----------
        X_a, X_b : array-like with rows as in ``fit``, equally many
            Where each way starts and ends.
        n_samples : int, default=5
            Rows on each way, at least 2, at equal distances in z: the first is a draw
            from the representation of ``X_a``, the last from that of ``X_b``.
        random_state : int, RandomState, Generator or None, default=None
            As in :meth:`sample`.

        Returns
        -------
        X_new : ndarray of shape (n_pairs, n_samples, ...), float32
            With columns of categories a DataFrame, pair after pair.
        """
        check_is_fitted(self)
        check_count("n_samples", n_samples, low=2, optional=False)
        a, b = (self._rows(X) for X in (X_a, X_b))
        if len(a) != len(b):
            raise ValueError(
                f"X_a and X_b must have equally many rows, got {len(a)} and {len(b)}."
            )
        seed = seed_of(self.random_state if random_state is None else random_state)
        z_a, z_b = (represent(module_of(self), rows) for rows in (a, b))
        share = torch.linspace(0, 1, n_samples)[:, None]
        z = torch.lerp(z_a[:, None], z_b[:, None], share).flatten(0, 1)
        X_new = self._decode(z, seed, n_shared=n_samples)
        if self._columns.like is not None:
            return X_new
        return X_new.reshape(len(a), n_samples, *X_new.shape[1:])

    def impute(self, X, *, random_state=None):
        """Fill gaps with draws of what may have been there, given what is known.

        Parameters
        ----------
        X : array-like or DataFrame with rows as in ``fit``
            NaN where a value is missing; at least one value of each row is known.
        random_state : int, RandomState, Generator or None, default=None
            As in :meth:`sample`. Other seeds give other draws: their spread says how
            little the known values tell.

        Returns
        -------
        X_filled : like ``X``
            A copy; known values are exactly those of ``X``. A draw has a larger squared
            error than an average of draws, and the spectra that the average lacks.
            Solves twice with ``quality`` steps of one evaluation, the second time with
            the representation of the first result; ``solver`` is not used.
        """
        check_is_fitted(self)
        seed = seed_of(self.random_state if random_state is None else random_state)
        return self._imputed(X, seed)

    def _variants(self, X, diversity, seed, first=0):
        z = represent(module_of(self), self._rows(X))
        if diversity:
            z = self._density.vary(z, diversity, seed)
        return self._decode(z, seed, first=first)

    def _imputed(self, X, seed, first=0):
        n_evaluations = check_quality(self.quality, self.solver)
        X = as_container(X)
        values = numbers_of(self._columns.codes_of(X))
        check_rows(self, with_zeros(X, values), reset=False)
        known = check_known(values)
        values = self._columns.spread(values)
        model, z = module_of(self), None
        if values.ndim == 2:  # there z says so much that it has to be drawn too
            steps = steps_of(n_evaluations, self.solver, self.stop_, None)
            z = of_donors(
                model, values, torch.cat(self._density.rows), seed, steps, first
            )
        drawn = complete(model, values, seed, n_evaluations, first, z)
        drawn = self._columns.rounded(self._finished(drawn))
        return put_in(X, drawn, known, self._columns)

    def _check_labelled(self, name):
        if self.classes_ is None:
            raise ValueError(
                f"{name} asks for classes, but fit had no labels. Call fit(X, y); with "
                "FrozenEstimator(fitted transformer) nothing is trained again."
            )

    def score_samples(self, X):
        """Return how usual each row is; see :meth:`FlowFMTransformer.score_samples`.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        scores : ndarray of shape (n,), float32
        """
        check_is_fitted(self)
        rows = self._rows(X)
        return score(module_of(self), rows, self.transformer_.seed_).numpy()

    def _rows(self, X):
        """Return rows as the model sees them, checked against those of ``fit``."""
        module_of(self)
        return self._spread(check_rows(self, self._columns.codes_of(X), reset=False))

    def _spread(self, coded):
        return Rows(self._columns.spread(coded.array))

    def _draw(self, codes, seed, first=0, earlier=None):
        check_torch_settings()
        z = self._density.draw(torch.as_tensor(codes), seed, first, earlier)
        return self._decode(z, seed, first=first)

    def _blocks(self, name, blocks):
        """Return an iterator over what a method draws.

        ``blocks`` of ``sample`` says how many rows, or of which classes; of the others
        it has the blocks of rows to draw from. Counting goes on from block to block.
        """
        check_is_fitted(self)
        check_torch_settings()
        seed = seed_of(self.random_state)
        if name == "sample":
            return self._sample_blocks(blocks, seed)
        if name == "impute":
            return counted(lambda X, first: self._imputed(X, seed, first), blocks)
        return counted(lambda X, first: self._variants(X, 0.0, seed, first), blocks)

    def _sample_blocks(self, wanted, seed):
        """Return an iterator over a sample of so many rows, or of these classes."""
        size = ROWS_AT_A_TIME
        if np.ndim(wanted):
            self._check_labelled("y")
            codes = codes_of(column_or_1d(off_torch(wanted)), self.classes_)
            return self._drawn_blocks(torch.as_tensor(codes).split(size), seed)
        check_count("n_samples", wanted, optional=False)
        codes = (
            self._density.draw_codes(min(size, wanted - first), seed, first)
            for first in range(0, wanted, size)
        )
        return self._drawn_blocks(codes, seed)

    def _drawn_blocks(self, parts, seed):
        first, earlier = 0, torch.zeros(len(self._density.rows), dtype=torch.long)
        model = module_of(self)
        size = rows_at_a_time(device_of(model), self.transformer_.row_shape_in_)
        for part in parts:
            if not len(part):  # nothing was asked for
                return
            z = self._density.draw(part, seed, first, earlier)
            for some in z.split(size):
                yield self._decode(some, seed, first=first)
                first += len(some)
            earlier = earlier + torch.bincount(part, minlength=len(earlier))

    def _decode(self, z, seed, n_shared=1, first=0):
        n_evaluations = check_quality(self.quality, self.solver)
        X = decode(
            module_of(self),
            z,
            self.transformer_.row_shape_in_,
            seed,
            steps_of(n_evaluations, self.solver, self.stop_, self.spectral_gain_),
            n_shared,
            first,
        )
        return self._finished(check_drawn(X).numpy())

    def _finished(self, X):
        """Return drawn rows within the bounds, a frame where there are categories."""
        X = self._columns.collapse(X)
        X = X if self._bounds is None else np.clip(X, *self._bounds)
        like = self._columns.like
        return X if like is None else rows_like(X, like, self._columns)
