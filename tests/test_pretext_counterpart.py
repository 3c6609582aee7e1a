"""The pretext counterpart: what each task does, and that the tasks can be learned."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from skflowfm.datasets import make_wearable
from skflowfm.nets import ConvEncoder, FeatureEncoder

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load_by_path(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pretext = load_by_path("_pretext")


@pytest.fixture
def walk():
    """Windows no two values of which are alike."""
    steps = np.random.default_rng(0).normal(size=(40, 3, 100))
    return torch.tensor(steps.cumsum(axis=2), dtype=torch.float32)


def ramp(n, n_timesteps):
    return torch.arange(n_timesteps, dtype=torch.float32).expand(n, 1, n_timesteps)


# ------------------------------------------------------------------- the three tasks
def test_turned_round_twice_is_as_before(walk):
    assert torch.equal(pretext.flip(pretext.flip(walk)), walk)
    assert torch.equal(pretext.flip(walk)[:, :, 0], walk[:, :, -1])
    assert not torch.equal(pretext.flip(walk), walk)


@pytest.mark.parametrize("n_timesteps", [100, 300, 16])
def test_shuffling_moves_four_chunks_and_changes_no_value(n_timesteps, seeded):
    at = pretext.permute(ramp(200, n_timesteps), seeded())[:, 0].long()
    least = 10 if n_timesteps >= 80 else n_timesteps // 8
    for row in at.numpy():
        assert sorted(row) == list(range(n_timesteps))
        seams = np.flatnonzero(np.diff(row) != 1) + 1
        assert 1 <= len(seams) <= 3  # neighbours may meet again
        assert np.diff([0, *seams, n_timesteps]).min() >= least


def test_all_channels_are_shuffled_alike(walk, seeded):
    index = pretext.permute(ramp(40, 100), seeded(3)).long().expand_as(walk)
    shuffled = pretext.permute(walk, seeded(3))
    assert torch.equal(shuffled, walk.gather(2, index))


def test_each_other_order_of_chunks_is_as_likely(seeded):
    lengths = pretext.chunk_lengths(5000, 120, seeded(1))
    assert lengths.min() >= 10
    assert (lengths.sum(dim=1) == 120).all()
    # the chunks are exchangeable: a quarter of the time each
    np.testing.assert_allclose(lengths.float().mean(dim=0), 30, atol=1)
    # the first step of the window goes to where its chunk goes
    first = (pretext.permute(ramp(5000, 120), seeded(2))[:, 0, 0] == 0).float().mean()
    assert float(first) == pytest.approx(5 / 23, abs=4 * (0.17 / 5000) ** 0.5)


def test_warped_time_keeps_both_ends_and_runs_forwards(seeded):
    warped = pretext.time_warp(ramp(300, 150), seeded())[:, 0]
    assert warped.shape == (300, 150)
    assert torch.equal(warped[:, 0], torch.zeros(300))
    torch.testing.assert_close(warped[:, -1], torch.full((300,), 149.0))
    speed = warped.diff(dim=1)
    assert (speed > 0).all()
    fastest, slowest = speed.amax(dim=1), speed.amin(dim=1)
    assert (fastest / slowest).median() > 1.5
    # as often faster in the first half as in the second
    late = (warped[:, 75] > 74.5).float().mean()
    assert float(late) == pytest.approx(0.5, abs=0.12)


def test_warping_commutes_with_amplitude_and_bounds(walk, seeded):
    warped = pretext.time_warp(walk, seeded(5))
    torch.testing.assert_close(
        pretext.time_warp(2 * walk + 1, seeded(5)), 2 * warped + 1
    )
    assert (warped.amax(dim=2) <= walk.amax(dim=2)).all()
    assert (warped.amin(dim=2) >= walk.amin(dim=2)).all()


def test_labels_say_what_happened(walk, seeded):
    many = walk.repeat(50, 1, 1)
    shown, labels = pretext.transformed(many, seeded())
    turned, shuffled, warped = labels.bool().unbind(1)
    same = (shown == many).flatten(1).all(dim=1)
    assert torch.equal(same, ~(turned | shuffled | warped))
    backwards = (shown == many.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(backwards, turned & ~shuffled & ~warped)
    kept = (shown.sort(dim=2).values == many.sort(dim=2).values).flatten(1).all(dim=1)
    assert torch.equal(kept, ~warped)
    # each with probability one half, and independent
    np.testing.assert_allclose(labels.mean(dim=0), 0.5, atol=0.05)
    kinds = (labels @ torch.tensor([1.0, 2.0, 4.0])).long().bincount(minlength=8)
    np.testing.assert_allclose(kinds / len(labels), 1 / 8, atol=0.03)


# ----------------------------------------------------------------------- the sensor
def test_a_turned_sensor_measures_the_same_lengths_and_angles(seeded):
    x = torch.randn(200, 7, 30, generator=seeded(0))
    turned = pretext.turn_sensor(x, seeded(1))
    for axes in (slice(0, 3), slice(3, 6)):
        before, after = x[:, axes], turned[:, axes]
        gram = before.transpose(1, 2) @ before
        torch.testing.assert_close(
            after.transpose(1, 2) @ after, gram, atol=1e-4, rtol=1e-4
        )
        assert not torch.isclose(before, after).flatten(1).all(dim=1).any()
    assert torch.equal(turned[:, 6], x[:, 6])  # no sensor of three axes
    # gravity ends up anywhere
    down = torch.zeros(3000, 3, 1)
    down[:, 2] = 1
    direction = pretext.turn_sensor(down, seeded(2))[:, :, 0]
    np.testing.assert_allclose(direction.mean(dim=0), 0, atol=0.15)


def test_rotation_by_a_right_angle():
    axis, angle = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[math.pi / 2]])
    x, y = torch.eye(3)[:, :1], torch.eye(3)[:, 1:2]
    torch.testing.assert_close(pretext.rotation(axis, angle)[0] @ x, y)


def test_windows_are_drawn_in_proportion_to_their_movement(seeded):
    wave = torch.sin(torch.linspace(0, 6 * math.pi, 60))
    size = torch.tensor([0.0, 1.0, 2.0, 5.0])
    x = 9.8 + size[:, None, None] * wave.expand(4, 3, 60)
    counts = pretext.by_movement(x, 8000, seeded()).bincount(minlength=4)
    np.testing.assert_allclose(counts / 8000, size / 8, atol=0.02)
    still = pretext.by_movement(torch.ones(4, 3, 60), 4000, seeded()).bincount()
    np.testing.assert_allclose(still / 4000, 0.25, atol=0.03)


# ----------------------------------------------------------------- nets and training
def test_it_trains_about_as_many_weights_as_the_default_encoder():
    def n_weights(kind, *sizes):
        with torch.device("meta"):
            return sum(p.numel() for p in kind(*sizes).parameters())

    own = n_weights(ConvEncoder, 3, 64, pretext.WIDTHS)
    assert own == pytest.approx(n_weights(FeatureEncoder, 256, 256), rel=0.15)


def sawtooth(n, seed):
    """Slow rise and sudden fall, at random phase, speed and size: time has an arrow."""
    rng = np.random.default_rng(seed)
    cycles = rng.uniform(2, 5, size=(n, 1, 1)) * np.linspace(0, 1, 80)
    teeth = (cycles + rng.uniform(size=(n, 1, 1))) % 1
    noise = 0.05 * rng.normal(size=(n, 3, 80))
    return (rng.uniform(0.5, 2, size=(n, 3, 1)) * (teeth - 0.5) + noise).astype("f4")


def test_tasks_are_learned_and_the_arrow_of_time_is_seen_in_new_windows():
    transformer = pretext.PretextTransformer(
        widths=(8, 16), max_steps=300, rotation=False, random_state=0
    ).fit(sawtooth(400, 0))
    losses = transformer.history_["train_flow"]
    assert losses.iloc[0] < 3.5 * math.log(2)
    assert losses.iloc[-1] < 0.75 * 3 * math.log(2)
    X = sawtooth(300, 1)
    with torch.inference_mode():
        forwards, backwards = (
            transformer.net_.logits(torch.from_numpy(x.copy()))[:, 0]
            for x in (X, X[:, :, ::-1])
        )
    accuracy = ((forwards < 0).float().mean() + (backwards > 0).float().mean()) / 2
    assert accuracy > 0.8


@pytest.fixture(scope="module")
def wearable():
    X, y, groups = make_wearable(300, n_timesteps=80, random_state=0, return_X_y=True)
    test = groups >= np.quantile(groups, 0.7)
    return X, y, groups, test


def quick(**parameters):
    settings = {"widths": (8, 16), "max_steps": 60, "random_state": 0, **parameters}
    return pretext.PretextTransformer(**settings)


@pytest.fixture(scope="module")
def fitted(wearable):
    X, _, groups, test = wearable
    return quick().fit(X[~test], groups=groups[~test])


def test_frozen_features_beat_chance_on_new_people(fitted, wearable):
    X, y, _, test = wearable
    Z = fitted.transform(X)
    np.testing.assert_allclose(Z[~test].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(Z[~test].std(axis=0), 1, atol=1e-3)
    classifier = LogisticRegression(max_iter=1000).fit(Z[~test], y[~test])
    chance = np.bincount(y).max() / len(y)
    assert classifier.score(Z[test], y[test]) > chance + 0.2


def test_fine_tuning_beats_chance_and_leaves_the_transformer_alone(fitted, wearable):
    X, y, groups, test = wearable
    before = fitted.transform(X)
    labels = np.array(["a", "b", "c", "d", "e", "f", "g", "h"])[y]
    classifier = pretext.PretextClassifier(fitted, max_steps=100, random_state=0)
    classifier.fit(X[~test], labels[~test], groups=groups[~test])
    chance = np.bincount(y).max() / len(y)
    assert classifier.score(X[test], labels[test]) > chance + 0.2
    np.testing.assert_allclose(classifier.predict_proba(X).sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(fitted.transform(X), before)
    parts = zip(
        classifier.net_.net.encoder.parameters(),
        fitted.net_.encoder.parameters(),
        strict=True,
    )
    assert all(not torch.equal(a, b) for a, b in parts)  # all layers moved


def test_rare_classes_weigh_as_much_as_common_ones(fitted, seeded):
    codes = torch.tensor([0] * 90 + [1] * 10)
    weight = pretext.FineTuned(fitted.net_, codes, seeded()).weight
    torch.testing.assert_close(weight * codes.bincount(), torch.full((2,), 50.0))


def test_a_fit_can_be_repeated_and_its_seed_matters(fitted, wearable):
    X, _, groups, test = wearable
    Z = fitted.transform(X)
    again = clone(fitted).fit(X[~test], groups=groups[~test])
    np.testing.assert_array_equal(again.transform(X), Z)
    other = quick(random_state=1).fit(X[~test], groups=groups[~test])
    assert not np.allclose(other.transform(X), Z, atol=1e-2)


def test_fewer_components_are_the_leading_ones(fitted, wearable):
    X, _, groups, test = wearable
    few = quick(n_components=8).fit(X[~test], groups=groups[~test])
    Z, Z_few = fitted.transform(X[~test]), few.transform(X[~test])
    assert Z_few.shape == (sum(~test), 8)
    largest = np.linalg.eigvalsh(np.cov(Z.T))[::-1][:8]
    np.testing.assert_allclose(np.cov(Z_few.T), np.diag(largest), atol=0.05)


def test_budgets_are_kept(wearable):
    X = wearable[0]
    assert quick(max_steps=0).fit(X).n_steps_ == 0
    assert quick(max_steps=7).fit(X).n_steps_ == 7
    timed = quick(max_steps=None, max_time=0.5).fit(X)
    assert timed.stopped_by_ in ("max_time", "early_stopping")
    assert timed.n_steps_ > 0


def test_the_scale_is_common_to_the_axes_of_a_sensor(wearable):
    X = wearable[0] * np.array([1, 1, 10], dtype=np.float32)[:, None]
    scale = quick(max_steps=0).fit(X).net_.scale[:, 0]
    torch.testing.assert_close(scale, torch.full((3,), float(np.sqrt((X**2).mean()))))
