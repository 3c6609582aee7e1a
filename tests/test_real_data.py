"""On real windows: training must teach the encoder something."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from skflowfm import FlowFMTransformer


@pytest.mark.slow
def test_trained_features_beat_the_same_encoder_untrained(shared_data):
    with np.load(shared_data("hapt_waist")) as stored:
        X, y, people = stored["X"], stored["y"], stored["groups"]
    train = people <= 15
    scores = {}
    for steps in (0, 300):
        model = FlowFMTransformer(max_steps=steps, random_state=0)
        Z = model.fit(X[train], groups=people[train]).transform(X)
        classifier = LogisticRegression(max_iter=5000).fit(Z[train], y[train])
        scores[steps] = f1_score(
            y[~train], classifier.predict(Z[~train]), average="macro"
        )
    assert scores[300] > scores[0] + 0.02
    assert scores[300] > 0.85
