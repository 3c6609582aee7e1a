"""FlowFMClassifier and FlowFMRegressor: the head, and what fine-tuning does to it."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_wine
from sklearn.feature_selection import f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.fixes import parse_version

from skflowfm import (
    FlowFMClassifier,
    FlowFMRegressor,
    FlowFMTransformer,
    _classifier,
    _finetuning,
    _transformer,
    _wide,
    load,
)
from skflowfm._finetuning import (
    RIDGE_ALPHAS,
    Labelled,
    Tuned,
    logistic_head,
    noisy_draws,
    part_of_the_way,
    regression_head,
    tune,
)
from skflowfm._wide import separation, some_of_each
from skflowfm.datasets import make_wearable
from skflowfm.nets import ConvEncoder

NAMES = np.array(["rest", "typing", "household", "walk", "stairs", "run"])


@pytest.fixture(scope="module")
def data():
    return make_wearable(96, n_timesteps=32, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def pretrained(data):
    return FlowFMTransformer(12, max_steps=20, random_state=0).fit(data[0])


@pytest.fixture(scope="module")
def Z(data, pretrained):
    return pretrained.transform(data[0])


def classifier(transformer, **parameters):
    """A short fine-tuning of a frozen transformer."""
    if isinstance(transformer, FlowFMTransformer):
        transformer = FrozenEstimator(transformer)
    options = {"strategy": "full", "max_steps": 60, "random_state": 0}
    return FlowFMClassifier(transformer, **(options | parameters))


def regressor(transformer, **parameters):
    options = {"strategy": "full", "max_steps": 60, "random_state": 0}
    return FlowFMRegressor(FrozenEstimator(transformer), **(options | parameters))


def state_of(model):
    """All numbers of a fitted transformer, as bytes."""
    weights = {k: v.numpy().tobytes() for k, v in model.module_.state_dict().items()}
    flags = [p.requires_grad for p in model.module_.parameters()]
    return weights, flags, model.history_.to_json(), model.get_params(deep=False)


# ------------------------------------------------------------------------- the heads
KINDS = {
    "numbers": lambda y: y,
    "two classes": lambda y: y // 3,
    "strings": lambda y: NAMES[y],
    "two strings": lambda y: NAMES[y // 3],
    "objects": lambda y: NAMES[y].astype(object),
}


def known_logits(transformer, X, y, C=1.0, class_weight=None):
    """Weighted mean of scikit-learn's logistic regression and six times its ridge."""
    Z = transformer.transform(X)
    logistic = LogisticRegression(C=C, class_weight=class_weight, max_iter=1000)
    rows, model = torch.from_numpy(X), transformer.module_
    with torch.inference_mode():
        wide = model.stem.wide(model.standardise(rows)).double().numpy()
    width = np.concatenate([[b.n_features] * b.n_features for b in model.stem.blocks])
    wide *= separation(wide, np.unique(y, return_inverse=True)[1], 1 / width)
    wide /= np.sqrt(wide.var(axis=0).sum())
    ridge = RidgeClassifierCV(np.logspace(-5, 2, 15), class_weight=class_weight)
    a = logistic.fit(Z, y).decision_function(Z)
    b = 6 * ridge.fit(wide, y).decision_function(wide)
    share = len(y) / (len(y) + 10 * len(logistic.classes_))
    if a.ndim == 1:  # of two classes a ridge has one number for both
        return (a + share * 2 * b) / (1 + share)
    logits = (a + share * b) / (1 + share)
    return logits - logits.mean(axis=1, keepdims=True)  # logits have no zero


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("C", [1.0, 0.05])
def test_the_head_is_the_mean_of_logistic_regression_and_ridge(
    data, pretrained, kind, C
):
    X, y = data[0], KINDS[kind](data[1])
    model = classifier(pretrained, strategy="head", C=C).fit(X, y)
    known = known_logits(pretrained, X, y, C=C)
    logits = model.decision_function(X)
    if logits.ndim == 2:
        logits = logits - logits.mean(axis=1, keepdims=True)
        codes = known.argmax(axis=1)
    else:
        codes = (known > 0).astype(int)
    np.testing.assert_allclose(logits, known, atol=1e-3)
    np.testing.assert_array_equal(model.predict(X), np.unique(y)[codes])


@pytest.mark.uses_global_rng
def test_without_a_stem_the_head_is_the_logistic_regression():
    X, y = load_wine(return_X_y=True)
    own = torch.nn.Linear(13, 8)
    transformer = FlowFMTransformer(8, encoder=own, max_steps=10, random_state=0).fit(X)
    model = FlowFMClassifier(FrozenEstimator(transformer)).fit(X, y)
    Z = transformer.transform(X)
    known = LogisticRegression(max_iter=1000).fit(Z, y)
    np.testing.assert_allclose(
        model.predict_proba(X), known.predict_proba(Z), atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        ("strings", "balanced"),
        ("strings", {"rest": 5.0, "run": 0.2}),
        ("two classes", {0: 3.0, 1: 0.5}),
    ],
)
def test_the_head_weighs_classes_as_its_parts_do(data, pretrained, kind, weight):
    keep = (data[1] != 5) | (np.arange(96) % 3 == 0)  # unbalanced
    X, y = data[0][keep], KINDS[kind](data[1])[keep]
    model = classifier(pretrained, strategy="head", class_weight=weight).fit(X, y)
    logits = model.decision_function(X)
    if logits.ndim == 2:
        logits = logits - logits.mean(axis=1, keepdims=True)
    known = known_logits(pretrained, X, y, class_weight=weight)
    stops_early = parse_version(sklearn.__version__) < parse_version("1.7")
    np.testing.assert_allclose(logits, known, atol=2e-2 if stops_early else 2e-3)


@pytest.mark.parametrize("n", [5, 400, 3000])
def test_the_rows_that_a_ridge_sees_have_all_classes_in_proportion(n):
    codes = np.repeat([0, 1, 2], [6 * n, 3 * n, 1])
    some = some_of_each(codes, 2000, seed=0)
    counts = np.bincount(codes[some])
    assert len(np.unique(some)) == len(some)
    if len(codes) <= 2000:
        assert len(some) == len(codes)
    else:
        assert abs(len(some) - 2000) <= 3
    assert counts[2] == 1
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.01)


def test_with_one_row_of_each_class_there_is_no_ridge(data, pretrained):
    X, y, _ = data
    first = [np.flatnonzero(y == c)[0] for c in np.unique(y)]
    model = classifier(pretrained, strategy="head").fit(X[first], y[first])
    assert model.head_.in_features == 12


def test_separation_is_the_f_statistic(monkeypatch):
    monkeypatch.setattr(_wide, "PRIOR_ROWS", 0)
    codes = np.repeat([0, 1, 2], [4, 7, 30])
    features = np.random.default_rng(0).normal(size=(41, 50)) + 0.5 * codes[:, None]
    known, _ = f_classif(features, codes)
    np.testing.assert_allclose(_wide.separation(features, codes, np.ones(50)), known)


def test_features_that_agree_by_chance_do_not_take_all():
    """Two rows of each of two classes: F alone has no mean there, and a long tail."""
    codes = np.array([0, 0, 1, 1])
    features = np.random.default_rng(0).normal(size=(4, 10_000))
    F, _ = f_classif(features, codes)
    separation = _wide.separation(features, codes, np.ones(10_000))
    assert F.max() > 1000 > 30 > separation.max()
    assert separation.mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("strategy", ["head", "full"])
@pytest.mark.parametrize("noise", [0, 1e-7])
def test_rows_that_are_all_the_same_say_nothing(pretrained, data, strategy, noise):
    rng = np.random.default_rng(0)
    X = np.repeat(data[0][:1], 60, axis=0)
    X = (X * (1 + noise * rng.normal(size=X.shape))).astype(np.float32)
    model = classifier(pretrained, strategy=strategy).fit(X, np.arange(60) % 2)
    np.testing.assert_allclose(model.predict_proba(data[0]), 0.5, atol=0.05)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e5])
def test_the_head_is_the_ridge_regression(data, pretrained, Z, unit):
    target = unit * (40 + data[0].std(axis=(1, 2)))
    model = regressor(pretrained, strategy="head").fit(data[0], target)
    known = RidgeCV(RIDGE_ALPHAS).fit(Z.astype(float), target)
    np.testing.assert_allclose(
        model.predict(data[0]), known.predict(Z.astype(float)), rtol=1e-5
    )


def test_a_regressor_recovers_a_linear_function_of_z(data, pretrained, Z):
    rng = np.random.default_rng(0)
    target = Z @ rng.normal(size=12) + 7
    train, test = np.arange(96) < 60, np.arange(96) >= 60
    for strategy, least in (("head", 0.999), ("full", 0.98)):
        model = regressor(pretrained, strategy=strategy)
        model.fit(data[0][train], target[train])
        assert model.score(data[0][test], target[test]) > least


@pytest.mark.parametrize("n_classes", [2, 3, None])
def test_fine_tuning_starts_where_the_heads_loss_is_flat(pretrained, Z, n_classes):
    """Same loss, same penalty: without noise there is no way down for the head."""
    rng = np.random.default_rng(0)
    if n_classes is None:
        target = rng.normal(size=96) * 50 + Z[:, 0]
        weight, (head, penalty) = np.ones(96), regression_head(Z, target)
    else:
        target = rng.integers(n_classes, size=96)
        weight = compute_sample_weight("balanced", target)
        head, penalty = logistic_head(Z.astype(float), target, weight, C=0.3)
    tuned = Tuned(copy.deepcopy(pretrained.module_), head, penalty / 96)
    tuned.axes, tuned.encode = torch.nn.Identity(), lambda z: z

    def slope(tuned):
        tuned.zero_grad()
        loss, _, _ = tuned(
            torch.from_numpy(Z),
            torch.from_numpy(target),
            torch.from_numpy(weight),
        )
        loss.mean().backward()
        return float(tuned.head.weight.grad.norm())

    at_start = slope(tuned)
    tuned.penalty *= 2
    assert at_start < 0.05 * slope(tuned)  # a wrong penalty would be seen


@pytest.mark.parametrize("strategy", ["full", "scratch"])
def test_a_classifier_goes_on_where_the_heads_loss_is_flat(monkeypatch, strategy):
    X, y = load_wine(return_X_y=True)
    pretrained, seen = FlowFMTransformer(8, max_steps=10, random_state=0).fit(X), []

    def watched(tuned, features, labelled, keep, **options):
        answers = labelled.target, labelled.weight
        tuned(features.clone(), *answers)[0].mean().backward()
        seen.append((keep, float(tuned.head.weight.grad.abs().max())))
        return tune(tuned, features, labelled, keep, **options)

    monkeypatch.setattr(_classifier, "tune", watched)
    classifier(pretrained, strategy=strategy, max_steps=1).fit(X, y)
    [(keep, slope)] = seen
    assert slope < 1e-3
    assert keep == 1 if strategy == "scratch" else 0 < keep < 1


def test_noise_has_the_unit_of_each_feature():
    head = torch.nn.Linear(8, 2, device="meta")
    model = SimpleNamespace(encoder=None, axes=None, stem=torch.nn.ReLU(), encode=None)
    generator = torch.Generator().manual_seed(0)
    tuned, unit = Tuned(model, head, 1.0), 10.0 ** torch.arange(8)
    features = torch.randn(30, 8, generator=generator)
    expected = tuned.noise(features) * unit
    torch.testing.assert_close(tuned.noise(features * unit), expected)


def test_a_batch_has_the_answers_and_weights_of_its_rows(seeded):
    number, some = torch.arange(50.0), torch.tensor([7, 3, 41])
    labelled = Labelled(torch.arange(50), number, number, None)
    silent = SimpleNamespace(noise=lambda features: torch.zeros(()))
    draw = noisy_draws(silent, number[:, None], labelled, torch.device("cpu"))
    batch = draw(some, seeded())
    for name in ("features", "target", "weight"):
        assert torch.equal(batch[name].flatten(), some.float())


# ---------------------------------------------------------------- what training does
def tuned_at(pretrained, Z, y, keep):
    """Return the encoder's and head's numbers before and after."""
    model = copy.deepcopy(pretrained.module_)
    head, penalty = logistic_head(Z, y, np.ones(len(y)), 1.0)
    tuned = Tuned(model, head, penalty / len(y))
    start = [p.detach().clone() for p in tuned.trained()]
    labelled = Labelled(
        torch.arange(len(y)), torch.from_numpy(y), torch.ones(len(y)), None
    )
    options = {"max_steps": 20, "validation_fraction": 0, "seed": 0, "verbose": 0}
    features = torch.randn(
        len(y), model.stem.n_features, generator=torch.Generator().manual_seed(0)
    )
    tune(tuned, features, labelled, keep, **options)
    return start, [p.detach() for p in tuned.trained()]


def test_weights_go_a_part_of_the_way(data, pretrained, Z):
    y = data[1]
    start, none = tuned_at(pretrained, Z, y, 0.0)
    assert all(map(torch.equal, start, none))
    _, half = tuned_at(pretrained, Z, y, 0.5)
    _, whole = tuned_at(pretrained, Z, y, 1.0)
    assert not any(map(torch.equal, start, whole))
    for a, m, b in zip(start, half, whole, strict=True):
        torch.testing.assert_close(m, (a + b) / 2)


def test_trust_in_training_grows_with_the_rows_of_each_class():
    assert part_of_the_way(0, 3) == 0
    assert part_of_the_way(40 * 7, 7) == 0.5
    assert part_of_the_way(10**9, 5) == pytest.approx(1)
    ways = [part_of_the_way(n, 6) for n in (6, 60, 600, 6000)]
    assert ways == sorted(ways)
    assert ways[0] < 0.03  # one row each: the frozen classifier, all but unchanged


@pytest.mark.parametrize("make", [classifier, regressor])
def test_a_frozen_transformer_is_left_as_it_was(data, pretrained, make):
    before = state_of(pretrained)
    model = make(pretrained).fit(data[0], data[1])
    assert state_of(pretrained) == before
    assert model.transformer_ is not pretrained
    moved = model.transformer_.transform(data[0]) - pretrained.transform(data[0])
    assert np.abs(moved).max() > 1e-3


def test_training_moves_encoder_and_head_only(data, pretrained):
    model = classifier(pretrained).fit(data[0], data[1])
    weights = model.transformer_.module_.state_dict()
    changed = {
        name.split(".")[0]
        for name, value in pretrained.module_.state_dict().items()
        if not torch.equal(value, weights[name])
    }
    assert changed == {"encoder"}


def test_the_head_strategy_trains_nothing(data, pretrained):
    model = classifier(pretrained, strategy="head").fit(data[0], data[1])
    assert model.transformer_ is pretrained
    assert (len(model.history_), model.n_steps_, model.stopped_by_) == (0, 0, None)


def test_fine_tuning_lowers_the_loss(data, pretrained):
    X, y, _ = data
    options = {"max_steps": 200, "validation_fraction": 0}
    full = classifier(pretrained, **options).fit(X, y)
    head = classifier(pretrained, strategy="head").fit(X, y)
    losses = full.history_.train_loss
    assert losses.iloc[-1] < losses.iloc[0] - 0.02
    assert log_loss(y, full.predict_proba(X)) < log_loss(y, head.predict_proba(X))


def test_steps_are_twenty_passes_over_the_labelled_rows(data, pretrained, monkeypatch):
    monkeypatch.setattr(_finetuning, "STEPS", (1, 2000))
    few = np.where(np.arange(96) % 3, data[1], -1)
    model = classifier(pretrained, max_steps=None).fit(data[0], few)
    assert model.history_["step"].iloc[-1] == 20  # 20 times 64 rows, 64 at a time


def test_the_history_has_one_column_for_each_loss(data, pretrained):
    model = classifier(pretrained, max_steps=120, validation_fraction=0.4)
    history = model.fit(data[0], data[1]).history_
    assert list(history) == ["step", "seconds", "train_loss", "valid_loss"]
    assert list(history.step) == [50, 100, 120]
    assert (model.n_steps_, model.stopped_by_) == (120, "max_steps")


def test_the_progress_line_names_the_loss_of_the_labels(data, pretrained, capsys):
    X, y, _ = data
    tune = FlowFMClassifier(FrozenEstimator(pretrained), strategy="full", max_steps=2)
    tune.set_params(verbose=1).fit(X, y)
    said = capsys.readouterr().out
    assert "step 2/2  loss " in said
    assert "flow" not in said


def test_a_second_fit_leaves_nothing_of_the_first(data, pretrained):
    model = classifier(pretrained).fit(data[0], data[1])
    model.set_params(strategy="head").fit(data[0], data[1] // 3)
    assert (len(model.history_), model.n_steps_, model.stopped_by_) == (0, 0, None)
    assert model.predict_proba(data[0]).shape == (96, 2)


def test_scratch_ignores_what_was_learned(data, pretrained):
    X, y, _ = data
    other = FlowFMTransformer(12, max_steps=5, random_state=0).fit(X[::2] * 3)
    one, two = (
        classifier(t, strategy="scratch").fit(X, y).predict_proba(X)
        for t in (pretrained, other)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, classifier(pretrained).fit(X, y).predict_proba(X))


@pytest.mark.parametrize("strategy", ["head", "full"])
def test_class_weights_move_the_decision(data, pretrained, strategy):
    y = np.random.default_rng(0).integers(2, size=96)  # nothing else to go by
    shares = [
        np.mean(
            classifier(pretrained, strategy=strategy, C=0.01, class_weight={0: w})
            .fit(data[0], y)
            .predict(data[0])
            == 0
        )
        for w in (0.1, 10)
    ]
    assert shares[0] < 0.1
    assert shares[1] > 0.9


def test_the_units_of_the_target_do_not_matter(data, pretrained):
    target = np.random.default_rng(0).normal(size=96) + data[0].std(axis=(1, 2))
    one = regressor(pretrained).fit(data[0], target).predict(data[0])
    for unit, shift in ((1e6, 3e6), (1e-6, 0)):
        model = regressor(pretrained).fit(data[0], unit * target + shift)
        again = (model.predict(data[0]) - shift) / unit
        np.testing.assert_allclose(again, one, atol=1e-3 * np.std(target))


def test_a_constant_target_is_predicted(data, pretrained):
    model = regressor(pretrained).fit(data[0], np.full(96, 5.0))
    np.testing.assert_allclose(model.predict(data[0]), 5, atol=0.05)


def test_results_follow_from_random_state(data, pretrained):
    X, y, _ = data
    one, again, other = (
        classifier(pretrained, random_state=seed).fit(X, y).predict_proba(X)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_random_state_seeds_the_pretraining_too(data):
    X, y, _ = data
    base = FlowFMTransformer(4, max_steps=3)
    one, again = (
        classifier(base, strategy="head").set_params(transformer=base).fit(X, y)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.predict_proba(X), again.predict_proba(X))
    assert base.random_state is None
    assert not hasattr(base, "module_")


# ------------------------------------------------------------------- unlabelled rows
@pytest.mark.parametrize("strategy", ["head", "full"])
@pytest.mark.parametrize("kind", ["numbers", "objects"])
def test_unlabelled_rows_change_nothing_if_the_transformer_is_frozen(
    data, pretrained, strategy, kind
):
    X, y = data[0], KINDS[kind](data[1])
    known = np.arange(96) % 3 != 0
    few = y.copy()
    few[~known] = -1
    one = classifier(pretrained, strategy=strategy).fit(X[known], y[known])
    two = classifier(pretrained, strategy=strategy).fit(X, few)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    np.testing.assert_array_equal(one.classes_, two.classes_)
    assert two.n_labelled_ == known.sum() == 64


def test_groups_of_unlabelled_rows_change_nothing(data, pretrained):
    X, y, _ = data
    known, groups = np.arange(96) % 3 != 0, np.arange(96) // 4
    few = np.where(known, y, -1)
    model = classifier(pretrained, validation_fraction=0.6)
    one = model.fit(X[known], y[known], groups=groups[known]).predict_proba(X)
    two = model.fit(X, few, groups=groups).predict_proba(X)
    np.testing.assert_array_equal(one, two)


def test_unlabelled_rows_serve_pretraining(data, pretrained):
    X, y, _ = data
    few = np.where(np.arange(96) < 30, y, -1)
    base = FlowFMTransformer(12, max_steps=20, random_state=0)
    model = classifier(base, strategy="head").set_params(transformer=base).fit(X, few)
    np.testing.assert_array_equal(
        model.transformer_.transform(X), pretrained.transform(X)
    )


def test_minus_one_is_a_class_beside_one_other(data, pretrained):
    y = np.where(data[1] < 3, -1, 1)
    model = classifier(pretrained, strategy="head").fit(data[0], y)
    assert model.classes_.tolist() == [-1, 1]
    assert model.n_labelled_ == 96
    assert model.score(data[0], y) > 0.8


# ------------------------------------------------------------------- early stopping
def test_whole_groups_are_held_out(data, pretrained, monkeypatch):
    X, y, groups = data
    few = np.where(np.arange(96) % 4, y, -1)
    seen = []

    def spy(n, fraction, groups, generator):
        split = hold_out(n, fraction, groups, generator)
        seen.append([set(np.asarray(groups)[part.numpy()]) for part in split])
        return split

    hold_out = _finetuning.hold_out
    monkeypatch.setattr(_finetuning, "hold_out", spy)
    monkeypatch.setattr(_transformer, "hold_out", spy)
    base = FlowFMTransformer(4, max_steps=1, validation_fraction=0.5, random_state=0)
    model = classifier(base, max_steps=1, validation_fraction=0.5)
    model.set_params(transformer=base).fit(X, few, groups=groups)
    assert len(seen) == 2  # pretraining and fine-tuning
    for trained, held_out in seen:
        assert held_out
        assert trained
        assert not trained & held_out
        assert trained | held_out == set(groups)


def test_early_stopping_ends_what_learns_noise_only(data, pretrained):
    y = np.random.default_rng(0).permutation(data[1])
    options = {"max_steps": 2000, "validation_fraction": 0.4, "C": 1e4}
    model = classifier(pretrained, **options).fit(data[0], y)
    assert model.stopped_by_ == "early_stopping"
    assert model.n_steps_ < 2000


@pytest.mark.parametrize("fraction", [0, 0.3])  # 28 rows are too few to watch
def test_early_stopping_is_off(data, pretrained, fraction):
    model = classifier(pretrained, validation_fraction=fraction)
    assert "valid_loss" not in model.fit(data[0], data[1]).history_


# --------------------------------------------------------------------- ways to get in
@pytest.mark.parametrize("strategy", ["head", "full"])
def test_a_saved_model_is_as_good_as_a_frozen_one(data, pretrained, strategy, tmp_path):
    X, y, _ = data
    path = tmp_path / "model.safetensors"
    pretrained.save(path)
    frozen = classifier(pretrained, strategy=strategy).fit(X, y).predict_proba(X)
    for saved in (path, str(path)):
        model = classifier(saved, strategy=strategy).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), frozen)
        model.save(tmp_path / "classifier")
        again = load(tmp_path / "classifier")
        np.testing.assert_array_equal(again.predict_proba(X), frozen)


def test_an_encoder_of_ones_own_is_trained(data):
    X, y, _ = data
    with torch.random.fork_rng():
        encoder = ConvEncoder(3, 8, widths=(8, 16))
    base = FlowFMTransformer(encoder=encoder, max_steps=5, random_state=0).fit(X)
    before = state_of(base)
    head = classifier(base, strategy="head").fit(X, y)
    full = classifier(base, max_steps=100, validation_fraction=0).fit(X, y)
    assert state_of(base) == before
    assert full.history_.train_loss.iloc[-1] < full.history_.train_loss.iloc[0]
    assert log_loss(y, full.predict_proba(X)) < log_loss(y, head.predict_proba(X))


def test_tables_and_their_names():
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    base = FlowFMTransformer(8, max_steps=10, random_state=0)
    model = FlowFMRegressor(base, max_steps=60, random_state=0).fit(X[:300], y[:300])
    assert list(model.feature_names_in_) == list(X)
    assert model.score(X[300:], y[300:]) > 0.35
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[list(X)[::-1]])
    labels = pd.cut(y, 3, labels=["low", "middle", "high"])
    base = FrozenEstimator(model.transformer_)
    other = FlowFMClassifier(base, strategy="head").fit(X, labels)
    assert sorted(other.classes_) == ["high", "low", "middle"]
    assert other.score(X, labels) > 0.5


def test_a_search_over_strategies_with_two_workers():
    X, y = load_wine(return_X_y=True)
    model = FlowFMClassifier(
        FlowFMTransformer(8, max_steps=10, random_state=0), max_steps=50, random_state=0
    )
    grid = {"strategy": ["full", "head", "scratch"]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert (search.cv_results_["mean_test_score"] > 0.8).all()
    assert search.predict(X).shape == y.shape


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [("strings", "full"), ("objects", "head"), (None, "full"), (None, "head")],
)
def test_copies_and_files_give_the_same_to_the_bit(
    data, pretrained, strategy, kind, tmp_path
):
    X, y, _ = data
    if kind is None:
        model, method = regressor(pretrained, strategy=strategy), "predict"
    else:
        model, method = classifier(pretrained, strategy=strategy), "predict_proba"
        y = KINDS[kind](y)
    model.fit(X, y)
    model.save(tmp_path / "model")
    results = getattr(model, method)(X)
    for other in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        load(tmp_path / "model"),
    ):
        np.testing.assert_array_equal(getattr(other, method)(X), results)
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        pd.testing.assert_frame_equal(other.history_, model.history_)
        assert other.get_params().keys() == model.get_params().keys()
    again = clone(model).fit(X, y)
    np.testing.assert_array_equal(getattr(again, method)(X), results)


def test_predictions_of_many_rows_do_not_depend_on_the_others():
    X, y = load_wine(return_X_y=True)
    base = FlowFMTransformer(8, max_steps=10, random_state=0)
    model = FlowFMClassifier(base, strategy="head").fit(X, y)
    many = np.tile(X, (40, 1))  # more than are computed at a time
    expected = np.tile(model.predict_proba(X), (40, 1))
    np.testing.assert_allclose(model.predict_proba(many), expected, atol=1e-5)


def test_a_row_of_a_table_is_answered_the_same_alone_as_among_others():
    X, y = load_wine(return_X_y=True)
    base = FlowFMTransformer(8, max_steps=10, random_state=0)
    model = FlowFMClassifier(base).fit(X, y)
    for method in (model.transformer_.transform, model.decision_function):
        alone = np.concatenate([method(X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_array_equal(alone, method(X))


# ----------------------------------------------------------------------------- errors
BAD = {
    "strategy": ({"strategy": "frozen"}, "strategy must be one of .*got strategy='fro"),
    "C": ({"C": 0}, r"C must be a number in \[1e-30, inf\), got C=0"),
    "steps": ({"max_steps": 0}, "max_steps must be an integer of at least 1 or None"),
    "fraction": ({"validation_fraction": 1}, r"must be a number in \[0, 1\), got"),
    "weight": ({"class_weight": "even"}, "class_weight.*must be.*'even'"),
    "seed": ({"random_state": -1}, "random_state must be None, a non-negative"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_refused_before_training(data, case):
    parameters, message = BAD[case]
    untrained = FlowFMTransformer(4, max_steps=10**9)  # would never end
    model = FlowFMClassifier(untrained).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(data[0], data[1])


@pytest.mark.parametrize(
    "weight", [{0: -5.0}, {0: 0}, {0: np.nan}, {0: "a"}, "even", [1, 2], {77: 1.0}]
)
def test_class_weights_without_a_sense_are_refused(data, pretrained, weight):
    model = classifier(pretrained).set_params(class_weight=weight)
    with pytest.raises(ValueError, match=r"class_weight must be None.*got class_weigh"):
        model.fit(data[0], data[1])


@pytest.mark.parametrize("make", [FlowFMClassifier, FlowFMRegressor])
def test_something_else_than_a_transformer_is_refused(data, make):
    with pytest.raises(TypeError, match=r"must be a FlowFMTransformer.*path.*got Log"):
        make(LogisticRegression()).fit(data[0], data[1])


def test_labels_that_cannot_be_learned_are_refused(data, pretrained):
    X, y, groups = data
    model = classifier(pretrained)
    with pytest.raises(ValueError, match=r"at least two classes, got one class.*Add"):
        model.fit(X, np.zeros(96, dtype=int))
    with pytest.raises(ValueError, match=r"y must have one entry per row.*got shape"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="groups must have one entry per row of X"):
        model.fit(X, y, groups=groups[:5])
    with pytest.raises(ValueError, match=r"rows of shape .* as in fit, got"):
        model.fit(X[:, :, :20], y)
    with pytest.raises(ValueError, match="class labels"):
        model.fit(X, np.linspace(0, 1, 96))
    with pytest.raises(ValueError, match="y contains NaN"):
        regressor(pretrained).fit(X, np.full(96, np.nan))


# ------------------------------------------------------------------ what it is good for
@pytest.mark.slow
def test_with_many_labels_fine_tuning_stays_near_the_head():
    """On many people who are in neither training; in the mean over three draws.

    It is .0045 behind there, with twice the noise and half of z dropped .008.
    """
    gains = []
    for seed in range(3):
        X, y, groups = make_wearable(
            4500, n_timesteps=60, n_subjects=36, random_state=seed, return_X_y=True
        )
        train = groups < 8
        base = FlowFMTransformer(64, max_steps=200, random_state=seed).fit(X[train])
        head, full = (
            FlowFMClassifier(FrozenEstimator(base), strategy=s, random_state=seed)
            .fit(X[train], y[train], groups=groups[train])
            .score(X[~train], y[~train])
            for s in ("head", "full")
        )
        gains.append(full - head)
    assert np.mean(gains) > -0.007


# ----------------------------------------------------------------- one row, many rows
def test_a_prediction_does_not_depend_on_how_many_come_with_it(data):
    """Of windows that are on or off: the last bit decides what a kernel counts."""
    X, y = (data[0] > 0).astype(np.float32), data[1]
    trained = FlowFMTransformer(6, max_steps=1, random_state=0).fit(X)
    for kind, method in (
        (FlowFMClassifier, "predict_proba"),
        (FlowFMRegressor, "predict"),
    ):
        model = kind(FrozenEstimator(trained), random_state=0).fit(X, y)
        answer = getattr(model, method)
        alone = np.concatenate([answer(X[i : i + 1]) for i in range(40)])
        np.testing.assert_allclose(alone, answer(X[:40]), atol=1e-5, rtol=1e-5)


def test_a_text_of_minus_one_beside_names_is_refused(data, pretrained):
    names = np.array(["rest", "typing", "household", "walk", "stairs", "run"])[data[1]]
    some = [name if i < 60 else -1 for i, name in enumerate(names)]
    model = FlowFMClassifier(FrozenEstimator(pretrained), random_state=0)
    with pytest.raises(ValueError, match="number in an array of dtype object"):
        model.fit(data[0], some)
    assert model.fit(data[0], np.array(some, dtype=object)).n_labelled_ == 60
    signs = np.where(data[1] > 2, "1", "-1")
    assert model.fit(data[0], signs).classes_.tolist() == ["-1", "1"]


@pytest.mark.parametrize("constant", [0.1, 1.0, 1e6])
def test_a_constant_answer_is_learned(data, pretrained, constant):
    model = FlowFMRegressor(FrozenEstimator(pretrained)).fit(
        data[0], np.full(len(data[0]), constant)
    )
    np.testing.assert_allclose(model.predict(data[0][:5]), constant, rtol=1e-6)


@pytest.mark.parametrize("weight", [1e40, 1e-60])
def test_class_weights_beyond_float32_are_refused(data, pretrained, weight):
    model = FlowFMClassifier(FrozenEstimator(pretrained), class_weight={0: weight})
    with pytest.raises(ValueError, match="class_weight must be"):
        model.fit(data[0], data[1])


def test_a_penalty_beyond_float32_is_refused(data, pretrained):
    with pytest.raises(ValueError, match="C must be a number"):
        FlowFMClassifier(FrozenEstimator(pretrained), C=1e-300).fit(data[0], data[1])


def test_rows_without_a_label_are_not_scored(data, pretrained):
    X, y = data[0], data[1]
    few = np.where(np.arange(len(y)) % 2 == 0, y, -1)
    model = FlowFMClassifier(pretrained, random_state=0).fit(X, few)
    labelled = few >= 0
    assert model.score(X, few) == model.score(X[labelled], y[labelled]) > 0.3
    few[:20:2] = (few[:20:2] + 1) % 6  # ten labels that are wrong
    y, weight = np.where(labelled, few, y), np.linspace(1, 3, len(y))
    weighted = model.score(X[labelled], y[labelled], weight[labelled])
    assert model.score(X, few, weight) == pytest.approx(weighted)
    assert abs(weighted - model.score(X, few)) > 0.01
    with pytest.raises(ValueError, match="a label other than -1"):
        model.score(X[:3], [-1, -1, -1])


def test_a_missing_label_has_a_name(data, pretrained):
    y = pd.Series(data[1]).astype("Int64").where(np.arange(len(data[1])) > 3)
    with pytest.raises(ValueError, match=r"-1 is the label of rows without one"):
        FlowFMClassifier(pretrained).fit(data[0], y)


@pytest.mark.parametrize("kind", [int, float, str, bool])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_masked_labels_are_refused_and_not_learned(data, pretrained, kind, shape):
    X, y, _ = data
    labels = (y > 2).astype(kind).reshape(shape)
    masked = np.ma.masked_array(labels, np.arange(len(y)).reshape(shape) > 40)
    model = classifier(pretrained, strategy="head")
    with pytest.raises(ValueError, match="y must have no masked values"):
        model.fit(X, masked)
    model.fit(X, labels.ravel())
    with pytest.raises(ValueError, match="y must have no masked values"):
        model.score(X, masked)


def test_weights_of_a_score_are_one_for_each_row(data, pretrained):
    X, y, _ = data
    model = classifier(pretrained, strategy="head").fit(X, y)
    some = np.where(y > 2, -1, y)
    with pytest.raises(ValueError, match="sample_weight must have"):
        model.score(X, some, sample_weight=np.ones(10))


@pytest.mark.parametrize("size", [1e-39, 1e-60, 1e-170, 1e-300])
def test_targets_below_what_float32_holds_are_refused(data, pretrained, size):
    X, y, _ = data
    with pytest.raises(ValueError, match="more than float32 resolves"):
        regressor(pretrained, strategy="head").fit(X, y * size)
    regressor(pretrained, strategy="head").fit(X, y * 1e-36)


@pytest.mark.parametrize(
    "as_text",
    [
        lambda y: y.astype(str),
        lambda y: y.astype("S"),
        lambda y: y.astype(str).tolist(),
        lambda y: y.astype(str).astype(object),
        lambda y: pd.Series(y.astype(str)),
    ],
)
def test_numbers_in_text_are_refused(data, pretrained, as_text):
    X, y, _ = data
    with pytest.raises(TypeError, match="y must be numeric, got"):
        regressor(pretrained).fit(X, as_text(y))
