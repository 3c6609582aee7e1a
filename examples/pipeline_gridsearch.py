"""FlowFM inside scikit-learn: pipeline, grid search over people, augmentation, frames.

    python examples/pipeline_gridsearch.py

Three things a user of scikit-learn expects to work:

1. ``GridSearchCV`` over a pipeline of windows, with folds that keep people apart;
2. ``set_output(transform="pandas")``, for named columns;
3. ``AugmentedClassifier`` on a table, in a pipeline: it adds synthetic rows to each
   training fold, and to nothing else.

Trainings are cut short so that the script runs in seconds. Its scores show that the
parts fit together, not how well the method works. Whether synthetic rows help depends
on the data and the classifier, so compare, as the third part does.
"""

from tempfile import TemporaryDirectory

import pandas as pd
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm import AugmentedClassifier, FlowFMSampler, FlowFMTransformer
from skflowfm.datasets import make_wearable

N_FOLDS = 3


def search(X, y, groups):
    """Choose the size of the representation and the classifier's penalty together."""
    grid = {
        "flowfmtransformer__n_components": [4, 32],
        "logisticregression__C": [0.001, 0.01, 0.1],
    }
    # Folds share no person, so the scores are for people the model has not seen.
    folds = GroupKFold(N_FOLDS)
    with TemporaryDirectory() as cache:
        pipeline = make_pipeline(
            FlowFMTransformer(max_steps=15, random_state=0),
            LogisticRegression(max_iter=5000),
            memory=cache,  # the values of C share one training per fold
        )
        return GridSearchCV(pipeline, grid, cv=folds).fit(X, y, groups=groups)


def search_table(fitted):
    """The results of a search, best first."""
    columns = {
        "param_flowfmtransformer__n_components": "n_components",
        "param_logisticregression__C": "C",
        "mean_test_score": "accuracy",
        "std_test_score": "sd over folds",
    }
    results = pd.DataFrame(fitted.cv_results_)[list(columns)].rename(columns=columns)
    return results.sort_values("accuracy", ascending=False)


def compare_augmentation(X, y):
    """Cross-validate a classifier with and without synthetic rows of rare classes."""
    logistic = make_pipeline(StandardScaler(), LogisticRegression())
    sampler = FlowFMSampler(FlowFMTransformer(max_steps=100), random_state=0)
    augmented = AugmentedClassifier(logistic, sampler)
    options = {
        "cv": StratifiedKFold(N_FOLDS, shuffle=True, random_state=0),
        "scoring": "f1_macro",
        "return_estimator": True,
    }
    without = cross_validate(logistic, X, y, **options)
    with_rows = cross_validate(augmented, X, y, **options)
    return pd.DataFrame(
        {
            "synthetic rows added": [e.n_synthetic_ for e in with_rows["estimator"]],
            "F1 without them": without["test_score"],
            "F1 with them": with_rows["test_score"],
        },
        index=pd.Index(range(N_FOLDS), name="fold"),
    )


def main():
    X, y, groups = make_wearable(
        240, n_timesteps=60, n_subjects=6, random_state=0, return_X_y=True
    )
    print("1. Grid search over windows, folds of different people: accuracy")
    fitted = search(X, y, groups)
    print(search_table(fitted).round(3).to_string(index=False))

    print("\n2. The representation of the best pipeline as a frame with named columns")
    transformer = fitted.best_estimator_[0].set_output(transform="pandas")
    print(transformer.transform(X[:3]).iloc[:, :4].to_string(float_format="%.2f"))

    print("\n3. A table with a rare class, each training fold augmented by itself")
    X, y = load_wine(return_X_y=True, as_frame=True)
    rows = X.index[y != 2].union(X.index[y == 2][::5])  # a fifth of the third class
    print(compare_augmentation(X.loc[rows], y.loc[rows]).to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()
