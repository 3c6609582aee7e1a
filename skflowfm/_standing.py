"""What an estimator stands on: a transformer, as it was fitted then."""


def keep(estimator, transformer) -> None:
    """Set ``transformer_``, and remember which fit of it this is."""
    estimator.transformer_ = transformer
    estimator._stands_on = fit_of(transformer)


def fit_of(transformer) -> tuple:
    """Return what tells one fit of a transformer from another."""
    return transformer.n_steps_, getattr(transformer, "fit_seconds_", None)


def module_of(estimator):
    """Return the joint model that ``estimator`` stands on, or raise if it has gone."""
    now = fit_of(estimator.transformer_)
    if estimator._stands_on != now:
        name = type(estimator).__name__
        raise ValueError(
            f"This {name} stands on a transformer that was fitted again since then, so "
            f"that representations mean something else now. Fit the {name} again."
        )
    return estimator.transformer_.module_
