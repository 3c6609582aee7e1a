"""On real windows: training must teach the encoder something."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from skflowfm import FlowFMTransformer
from skflowfm.nets import ConvEncoder

N_LABELS = 5


@pytest.fixture(scope="module")
def people(shared_data):
    with np.load(shared_data("hapt_waist")) as stored:
        X, y, groups = stored["X"], stored["y"], stored["groups"]
    return X, y, groups, groups <= 15


def scores(model, X, y, groups, train):
    """Macro-F1 on new people: with all labels; mean of ten draws of five a class."""
    Z = model.fit(X[train], groups=groups[train]).transform(X)
    rng = np.random.default_rng(0)
    shown = [np.flatnonzero(train)]
    for _ in range(10):
        per_class = (np.flatnonzero(train & (y == k)) for k in np.unique(y))
        shown.append(np.concatenate([rng.permutation(r)[:N_LABELS] for r in per_class]))
    out = []
    for rows in shown:
        classifier = LogisticRegression(max_iter=5000).fit(Z[rows], y[rows])
        predicted = classifier.predict(Z[~train])
        out.append(f1_score(y[~train], predicted, average="macro"))
    return out[0], np.mean(out[1:])


@pytest.mark.slow
def test_training_adds_to_the_default_encoder_where_labels_are_few(people):
    before = scores(FlowFMTransformer(max_steps=0, random_state=0), *people)
    after = scores(FlowFMTransformer(max_steps=300, random_state=0), *people)
    assert after[1] > before[1] + 0.03
    assert after[0] > before[0] - 0.01
    assert after[0] > 0.9


@pytest.mark.slow
@pytest.mark.uses_global_rng
def test_a_trained_convolutional_encoder_beats_its_untrained_copy(people):
    torch.manual_seed(0)
    encoder = ConvEncoder(3, 64)
    before, after = (
        scores(
            FlowFMTransformer(encoder=encoder, max_steps=steps, random_state=0), *people
        )
        for steps in (0, 300)
    )
    assert after[0] > before[0] + 0.01
    assert after[1] > before[1] + 0.05
