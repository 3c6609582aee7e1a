"""The simulated windows are what their documentation says; cutting loses nothing."""

from collections import Counter
from itertools import groupby

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm.datasets import make_wearable, resample_windows, sliding_windows
from skflowfm.datasets._wearable import _draw_people

CADENCE = {"walk": (1.6, 2.2), "stairs": (1.2, 1.7), "run": (2.4, 3.1)}
EXAMPLES = settings(deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def data():
    return make_wearable(random_state=0)


def _statistics(X):
    """Order statistics and variation of axes and norm; the spectrum of all axes."""
    Z = np.concatenate([X, np.linalg.norm(X, axis=1, keepdims=True)], axis=1)
    levels = np.percentile(Z, [0, 10, 50, 90, 100], axis=-1)
    blocks = [Z.mean(-1), Z.std(-1), np.abs(np.diff(Z)).mean(-1), *levels]
    power = (np.abs(np.fft.rfft(X)) ** 2).sum(axis=1)[:, 1:73]
    return np.concatenate([*blocks, np.log(power)], axis=1)


# ---------------------------------------------------------------- make_wearable


def test_wearable_types_and_description(data):
    assert (data.X.dtype, data.y.dtype, data.groups.dtype) == ("f4", "i8", "i8")
    assert data.X.shape == (600, len(data.channels), 150)
    assert np.isfinite(data.X).all()
    assert (data.sampling_rate, len(data.classes)) == (30.0, 6)
    assert all(name in data.DESCR for name in data.classes)


def test_wearable_at_rest_feels_gravity_only(data):
    norm = np.linalg.norm(data.X[data.classes[data.y] == "rest"], axis=1)
    assert abs(norm.mean() - 1) < 0.01
    assert (np.abs(norm.mean(axis=1) - 1) < 0.1).all()
    assert norm.std(axis=1).max() < 0.06


def test_wearable_gravity_is_in_every_class_and_no_channel_is_constant(data):
    for label in range(len(data.classes)):
        norm = np.linalg.norm(data.X[data.y == label], axis=1)
        assert 0.9 < np.median(norm) < 1.5
    assert data.X.std(axis=-1).min() > 0.01


@pytest.mark.parametrize("name", CADENCE)
def test_wearable_gait_has_the_documented_cadence(name):
    X, _, _ = make_wearable(
        80, n_timesteps=900, activities=(name,), random_state=1, return_X_y=True
    )
    power = np.abs(np.fft.rfft(X - X.mean(-1, keepdims=True))) ** 2
    dominant = np.fft.rfftfreq(900, 1 / 30.0)[power.sum(axis=1).argmax(axis=-1)]
    low, high = CADENCE[name]
    assert np.mean((dominant > low - 0.1) & (dominant < high + 0.1)) > 0.95
    assert np.ptp(dominant) > 0.3 * (high - low)


def test_wearable_phase_is_random_so_windows_do_not_line_up():
    X = make_wearable(
        200, n_timesteps=30, n_subjects=1, activities=("walk",), random_state=0
    ).X
    moving = X - X.mean(axis=-1, keepdims=True)
    assert moving.mean(axis=0).std() < 2 * moving.std() / np.sqrt(len(X))


def test_wearable_sampling_rate_does_not_change_the_movement():
    coarse = make_wearable(24, noise=0.0, random_state=3)
    fine = make_wearable(
        24, n_timesteps=300, sampling_rate=60.0, noise=0.0, random_state=3
    )
    np.testing.assert_allclose(fine.X[:, :, ::2], coarse.X, atol=1e-5)


def test_wearable_does_not_alias():
    # Typing bursts (1 Hz and more) and all harmonics of running (1.2 Hz and more) lie
    # above the 1 Hz that a rate of 2 Hz can show.
    def simulate(name, sampling_rate):
        return make_wearable(
            40,
            sampling_rate=sampling_rate,
            activities=(name,),
            noise=0.0,
            random_state=0,
        ).X

    assert np.ptp(np.linalg.norm(simulate("typing", 30.0), axis=1)) > 0.1
    np.testing.assert_allclose(
        np.linalg.norm(simulate("typing", 2.0), axis=1), 1, atol=1e-6
    )
    seen, unseen = (simulate("run", rate).std(axis=-1).mean() for rate in (30.0, 2.0))
    assert unseen < 0.4 * seen


def test_wearable_noise_is_white_plus_an_offset_of_the_same_size():
    quiet, loud = (make_wearable(200, noise=s, random_state=0).X for s in (0.0, 0.5))
    noise = loud - quiet
    white = np.diff(noise, axis=-1) / np.sqrt(2)
    assert abs(white.std() / 0.5 - 1) < 0.02
    assert abs(noise.std() / (0.5 * np.sqrt(2)) - 1) < 0.05


@EXAMPLES
@given(st.integers(1, 90), st.integers(1, 9), st.integers(1, 6))
def test_wearable_is_balanced(n_windows, n_subjects, n_classes):
    names = ("run", "rest", "stairs", "walk", "household", "typing")[:n_classes]
    _, y, groups = make_wearable(
        n_windows,
        n_timesteps=1,
        n_subjects=n_subjects,
        activities=names,
        random_state=0,
        return_X_y=True,
    )
    cells = np.zeros((n_classes, n_subjects), dtype=int)
    np.add.at(cells, (y, groups), 1)
    assert cells.sum() == n_windows
    for counts in (cells, cells.sum(axis=0), cells.sum(axis=1)):
        assert np.ptp(counts) <= 1
    assert (cells.min() > 0) == (n_windows >= n_classes * n_subjects)


def test_wearable_is_shuffled(data):
    assert np.count_nonzero(np.diff(data.y) == 1) < 200
    assert np.count_nonzero(np.diff(data.groups) == 0) < 150


def test_wearable_labels_follow_the_given_activities():
    data = make_wearable(40, activities=("run", "rest"), random_state=0)
    spread = data.X.std(axis=-1).max(axis=1)
    assert data.classes.tolist() == ["run", "rest"]
    assert spread[data.y == 0].min() > 3 * spread[data.y == 1].max()


def test_wearable_people_differ(data):
    walk = data.classes[data.y] == "walk"
    score = cross_val_score(
        RandomForestClassifier(50, random_state=0),
        _statistics(data.X[walk]),
        data.groups[walk],
        cv=3,
    )
    assert score.mean() > 4 / 8  # chance is 1/8


def test_wearable_people_do_not_depend_on_their_number():
    few, many = (_draw_people(np.random.default_rng(0), n) for n in (3, 5))
    for trait in few:
        np.testing.assert_array_equal(few[trait], many[trait][:3])
    identity = few["mounting"] @ few["mounting"].transpose(0, 2, 1)
    np.testing.assert_allclose(
        identity, np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(few["mounting"]), 1)


def test_wearable_is_neither_trivial_nor_hopeless():
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    forest = RandomForestClassifier(50, random_state=0)
    accuracy = {"raw": [], "statistics": []}
    for seed in (0, 1):
        X, y, groups = make_wearable(random_state=seed, return_X_y=True)
        split = {"groups": groups, "cv": GroupKFold(4)}
        raw = cross_val_score(linear, X.reshape(len(X), -1), y, **split)
        statistics = cross_val_score(forest, _statistics(X), y, **split)
        accuracy["raw"].append(raw.mean())
        accuracy["statistics"].append(statistics.mean())
    raw, statistics = (np.mean(values) for values in accuracy.values())
    assert 0.80 < statistics < 0.97
    assert 1.5 / 6 < raw < statistics - 0.3


@pytest.mark.parametrize("make_seed", [lambda: 7, lambda: np.random.RandomState(7)])
def test_wearable_seed_reproduces(make_seed):
    first, second = (make_wearable(12, random_state=make_seed()) for _ in range(2))
    for key in ("X", "y", "groups"):
        np.testing.assert_array_equal(first[key], second[key])
    assert not np.array_equal(first.X, make_wearable(12, random_state=8).X)


def test_wearable_random_state_instance_advances():
    state = np.random.RandomState(7)
    first, second = (make_wearable(12, random_state=state).X for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("random_state", [0, None])
def test_wearable_leaves_the_global_random_state_alone(random_state):
    before = np.random.get_state()[1].copy(), np.random.get_state()[2]
    make_wearable(12, random_state=random_state)
    after = np.random.get_state()
    np.testing.assert_array_equal(before[0], after[1])
    assert before[1] == after[2]


def test_wearable_without_seed_ignores_the_global_seed():
    state = np.random.get_state()
    try:
        draws = []
        for _ in range(2):
            np.random.seed(0)
            draws.append(make_wearable(12).X)
    finally:
        np.random.set_state(state)
    assert not np.array_equal(*draws)


def test_wearable_return_X_y_gives_the_same_data():
    data = make_wearable(12, random_state=0)
    for key, value in zip(
        ("X", "y", "groups"),
        make_wearable(12, random_state=0, return_X_y=True),
        strict=True,
    ):
        np.testing.assert_array_equal(data[key], value)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"n_windows": 0}, ValueError, "n_windows == 0, must be >= 1"),
        ({"n_timesteps": 1.5}, TypeError, "n_timesteps must be an instance of int"),
        ({"n_subjects": -1}, ValueError, "n_subjects == -1"),
        ({"sampling_rate": 0.0}, ValueError, "sampling_rate must be a finite positive"),
        ({"sampling_rate": np.nan}, ValueError, "got nan"),
        ({"noise": -0.1}, ValueError, "noise must be a finite non-negative"),
        ({"noise": "low"}, TypeError, "noise must be an instance of float"),
        ({"activities": ("walk", "fly")}, ValueError, "rest.*got .*fly"),
        ({"activities": ("walk", "walk")}, ValueError, "different names"),
        ({"activities": ()}, ValueError, "one or more"),
        ({"activities": "walk"}, ValueError, "sequence of .* got 'walk'"),
        ({"random_state": -1}, ValueError, "non-negative int.*got -1"),
        ({"random_state": np.random}, ValueError, "random_state must be None"),
    ],
)
def test_wearable_errors(wrong, error, message):
    with pytest.raises(error, match=message):
        make_wearable(**wrong)


# -------------------------------------------------------------- sliding_windows

NUMBERS = st.integers(-1000, 1000).map(float)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 3))


def _with_gaps(n_samples):
    return arrays(float, n_samples, elements=st.sampled_from([0.0, 1.0, np.nan]))


@EXAMPLES
@given(st.data(), SHAPES, st.integers(1, 12))
def test_windows_are_all_the_slices(data, shape, step):
    recording = data.draw(arrays(float, shape, elements=NUMBERS))
    n_timesteps = data.draw(st.integers(1, shape[0]))
    windows = sliding_windows(recording, n_timesteps, step=step)
    assert windows.X.shape[0] == (shape[0] - n_timesteps) // step + 1
    assert windows.X.dtype == np.float32
    assert windows.y is None
    assert windows.groups is None
    for i, (start, window) in enumerate(zip(windows.start, windows.X, strict=True)):
        assert start == i * step
        np.testing.assert_array_equal(window, recording[start : start + n_timesteps].T)


def test_windows_lie_side_by_side_by_default():
    windows = sliding_windows(np.arange(11.0), 3)
    assert windows.start.tolist() == [0, 3, 6]
    assert windows.X.tolist() == [[[0, 1, 2]], [[3, 4, 5]], [[6, 7, 8]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_never_share_or_change_the_input(dtype):
    recording = np.arange(20, dtype=dtype).reshape(10, 2)
    recording[4, 0] = np.nan
    before = recording.copy()
    windows = sliding_windows(recording, 2, max_gap=1)
    assert windows.X[2].tolist() == [[8 - 0.0, 10], [9, 11]]
    np.testing.assert_array_equal(recording, before)
    windows.X[:] = -1
    np.testing.assert_array_equal(recording, before)
    recording.flags.writeable = False
    assert len(sliding_windows(recording, 2, max_gap=1).X) == 5


def test_windows_of_the_same_recording_in_other_containers():
    table = np.arange(24.0).reshape(12, 2)
    table[3, 1] = np.nan
    frame = pd.DataFrame(table, columns=["x", "y"], index=range(100, 112))
    expected = sliding_windows(table, 3)
    for same in (frame, frame.astype("Float64"), table.tolist()):
        np.testing.assert_array_equal(sliding_windows(same, 3).X, expected.X)
    single = sliding_windows(table[:, :1], 3).X
    for same in (table[:, 0], frame["x"], frame["x"].astype("Float32")):
        np.testing.assert_array_equal(sliding_windows(same, 3).X, single)


LABELS = st.lists(
    st.sampled_from(["run", "walk", "sit", None]), min_size=1, max_size=30
)


@EXAMPLES
@given(LABELS, st.data(), st.sampled_from([0.0, 0.3, 0.5, 2 / 3, 1.0]))
def test_windows_take_the_majority_label(labels, data, purity):
    n_timesteps = data.draw(st.integers(1, len(labels)))
    expected = {}
    for start in range(len(labels) - n_timesteps + 1):
        counts = Counter(labels[start : start + n_timesteps])
        del counts[None]
        if counts:
            count, winner = min((-count, label) for label, count in counts.items())
            if -count / n_timesteps >= purity:
                expected[start] = winner
    windows = sliding_windows(
        np.arange(len(labels)), n_timesteps, step=1, labels=labels, purity=purity
    )
    assert (
        dict(zip(windows.start.tolist(), windows.y.tolist(), strict=True)) == expected
    )
    np.testing.assert_array_equal(windows.X[:, 0, 0], windows.start)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([3, 1, 1, 3], 1),
        (["b", "b", "a", "a"], "a"),
        ([3, None, None, 3], 3),
        (["walk", np.nan, "walk", np.nan], "walk"),
        (pd.array([2, None, 2, 2]), 2),
        (pd.Series(["b", "a", "b", None], index=[7, 8, 9, 9]), "b"),
        (pd.Categorical(["b", "a", "b", "b"]), "b"),
        (np.array([np.nan, 2.0, 2.0, np.nan]), 2.0),
        ([True, False, True, True], True),
    ],
)
def test_windows_label_kinds(labels, expected):
    y = sliding_windows(np.zeros(4), 4, labels=labels).y
    assert y.tolist() == [expected]
    assert y.dtype == np.array([expected]).dtype


def test_windows_purity_counts_every_sample_exactly():
    labels = ["walk"] * 7 + [None] * 93
    recording = np.zeros(100)
    assert 0.07 * 100 > 7  # why the share is compared, not the count
    assert len(sliding_windows(recording, 100, labels=labels, purity=0.07).y) == 1
    assert len(sliding_windows(recording, 100, labels=labels, purity=0.0701).y) == 0


def test_windows_without_any_label_are_dropped():
    windows = sliding_windows(np.zeros((6, 2)), 3, labels=[None] * 6, purity=0)
    assert (windows.X.shape, len(windows.y), len(windows.start)) == ((0, 2, 3), 0, 0)


@EXAMPLES
@given(st.data(), st.integers(1, 30), st.integers(0, 4))
def test_windows_with_long_gaps_are_the_only_ones_dropped(data, n_samples, max_gap):
    marks = data.draw(
        arrays(float, (n_samples, 2), elements=st.sampled_from([0.0, np.nan]))
    )
    n_timesteps = data.draw(st.integers(1, n_samples))
    line = np.outer(np.arange(n_samples), [2.0, -1.0]) + 5
    recording = np.where(np.isnan(marks), np.nan, line)

    lost = np.zeros(n_samples, dtype=bool)
    for channel in recording.T:
        for missing, run in groupby(
            range(n_samples), lambda i, c=channel: np.isnan(c[i])
        ):
            run = list(run)
            at_the_edge = run[0] == 0 or run[-1] == n_samples - 1
            if missing and (len(run) > max_gap or at_the_edge):
                lost[run] = True
    starts = range(n_samples - n_timesteps + 1)
    kept = [s for s in starts if not lost[s : s + n_timesteps].any()]

    windows = sliding_windows(recording, n_timesteps, step=1, max_gap=max_gap)
    assert windows.start.tolist() == kept
    for start, window in zip(windows.start, windows.X, strict=True):
        truth = line[start : start + n_timesteps].T
        np.testing.assert_allclose(window, truth, rtol=1e-6)


@EXAMPLES
@given(st.data(), st.integers(1, 4), st.integers(0, 3))
def test_windows_of_joined_recordings_are_those_of_each(data, n_timesteps, max_gap):
    sizes = data.draw(st.lists(st.integers(n_timesteps, 12), min_size=1, max_size=4))
    names = data.draw(st.permutations(range(len(sizes))))
    parts = [data.draw(_with_gaps(size)) for size in sizes]
    kwargs = {"step": 1, "max_gap": max_gap}
    joined = sliding_windows(
        np.concatenate(parts), n_timesteps, groups=np.repeat(names, sizes), **kwargs
    )
    alone = [
        sliding_windows(part, n_timesteps, groups=name, **kwargs)
        for part, name in zip(parts, names, strict=True)
    ]
    for key in ("X", "groups"):
        expected = np.concatenate([windows[key] for windows in alone])
        np.testing.assert_array_equal(joined[key], expected)


def test_windows_scalar_group_is_repeated():
    assert sliding_windows(np.zeros(6), 3, groups="ann").groups.tolist() == ["ann"] * 2


def test_windows_rebuild_the_simulated_data():
    data = make_wearable(10, n_timesteps=20, random_state=0)
    recording = data.X.transpose(0, 2, 1).reshape(-1, 3)
    labels = np.repeat(data.classes[data.y], 20)
    windows = sliding_windows(recording, 20, labels=labels, purity=1)
    np.testing.assert_array_equal(windows.X, data.X)
    assert windows.y.tolist() == data.classes[data.y].tolist()


RECORDING = np.zeros((10, 2))
FRAME = pd.DataFrame({"x": np.zeros(10), "label": ["walk"] * 10})


@pytest.mark.parametrize(
    ("recording", "kwargs", "error", "message"),
    [
        (RECORDING, {"n_timesteps": 11}, ValueError, "10 samples.*n_timesteps=11"),
        (RECORDING[:0], {}, ValueError, "0 samples"),
        (RECORDING, {"n_timesteps": 0}, ValueError, "n_timesteps == 0, must be >= 1"),
        (RECORDING, {"n_timesteps": 4.0}, TypeError, "n_timesteps must be an instance"),
        (RECORDING, {"step": 0}, ValueError, "step == 0, must be >= 1"),
        (RECORDING, {"step": -2}, ValueError, "step == -2, must be >= 1"),
        (RECORDING, {"max_gap": -1}, ValueError, "max_gap == -1, must be >= 0"),
        (RECORDING, {"purity": 1.5}, ValueError, "purity .* from 0 to 1, got 1.5"),
        (RECORDING, {"purity": np.nan}, ValueError, "purity .* got nan"),
        (RECORDING, {"labels": ["a"] * 9}, ValueError, r"labels .*\(10,\), got \(9,\)"),
        (RECORDING, {"labels": [["a"]] * 10}, ValueError, r"got \(10, 1\)"),
        (RECORDING, {"labels": ["a", 1] * 5}, TypeError, "one sortable type"),
        (RECORDING, {"groups": [1] * 9}, ValueError, r"groups .*\(10,\), got \(9,\)"),
        (
            RECORDING,
            {"groups": [1, None] * 5},
            ValueError,
            "missing for 5 of 10.* 1. G",
        ),
        (RECORDING, {"groups": np.nan}, ValueError, "missing for 10 of 10"),
        (RECORDING[np.newaxis], {}, ValueError, r"n_channels.*got \(1, 10, 2\)"),
        (RECORDING[:, :0], {}, ValueError, "at least one channel"),
        (RECORDING.astype(object), {}, TypeError, "real numbers, got dtype object"),
        (RECORDING.astype(complex), {}, TypeError, "got dtype complex128"),
        (RECORDING.astype(str), {}, TypeError, "got dtype <U"),
        (RECORDING + np.inf, {}, ValueError, "infinite values.*10 of 10 samples"),
        (RECORDING + 1e300, {}, ValueError, "too large for float32"),
        (FRAME, {}, TypeError, "got {'label': .*groups have parameters of their own"),
    ],
)
def test_windows_errors(recording, kwargs, error, message):
    with pytest.raises(error, match=message):
        sliding_windows(recording, **{"n_timesteps": 5, **kwargs})


def test_masked_samples_of_a_recording_are_gaps():
    recording = np.ma.masked_equal(np.r_[np.arange(7), -9999, np.arange(8, 20)], -9999)
    assert sliding_windows(recording, 5).start.tolist() == [0, 10, 15]
    bridged = sliding_windows(recording, 5, max_gap=1).X[:, 0]
    np.testing.assert_array_equal(bridged.ravel(), np.arange(20))


@pytest.mark.parametrize(
    ("n", "rate_in", "rate_out", "expected"),
    [
        (96000, 48000, 30, 60),
        (88200, 44100, 30, 60),
        (256000, 25600, 30, 300),
        (15000, 1500, 1, 10),
        (300, 49.97, 30, 181),
        (100, np.float32(50), 30, 60),
    ],
)
def test_any_two_rates(n, rate_in, rate_out, expected):
    t = np.arange(n) / float(rate_in)
    X = np.sin(2 * np.pi * rate_out / 20 * t)[None, None]
    new = resample_windows(X, rate_in, rate_out)
    assert new.shape == (1, 1, expected)
    wanted = np.sin(2 * np.pi * np.arange(expected) / 20)
    middle = slice(expected // 4, -expected // 4)
    np.testing.assert_allclose(new[0, 0, middle], wanted[middle], atol=0.02)


def test_windows_that_cannot_be_resampled():
    with pytest.raises(ValueError, match="no masked values"):
        resample_windows(np.ma.masked_greater(np.ones((1, 1, 9)), 0), 50, 30)
    with pytest.raises(ValueError, match="finite in float32"):
        resample_windows(np.full((1, 1, 9), 1e39), 50, 30)
    with pytest.raises(ValueError, match="X must be an array of numbers"):
        resample_windows(pd.DataFrame(np.ones((3, 3))), 50, 30)


def test_masked_labels_are_missing():
    labels = np.ma.masked_array([1] * 4 + [2] * 4, mask=[0] * 4 + [1] * 4)
    assert sliding_windows(np.arange(8.0), 4, labels=labels).y.tolist() == [1]


def test_a_window_of_one_sample_keeps_it():
    X = np.array([[[2.5], [-1.0]]])
    assert np.array_equal(resample_windows(X, 50, 30), X)
    np.testing.assert_allclose(resample_windows(X, 30, 60), X.repeat(2, axis=2))


def test_tensors_are_read_like_arrays():
    torch = pytest.importorskip("torch")
    X = torch.arange(24.0).reshape(2, 3, 4)
    expected = resample_windows(X.numpy(), 30, 15)
    for tensor in (X, X.clone().requires_grad_(), X.bfloat16()):
        np.testing.assert_array_equal(resample_windows(tensor, 30, 15), expected)
    recording = X.reshape(-1, 3)
    windows = sliding_windows(recording.numpy(), 4).X
    for tensor in (recording.clone().requires_grad_(), recording.bfloat16()):
        np.testing.assert_array_equal(sliding_windows(tensor, 4).X, windows)


def test_a_ragged_recording_is_refused():
    with pytest.raises(ValueError, match="equally many channels in each sample"):
        sliding_windows([[1, 2], [3]], 2)


@pytest.mark.parametrize("options", [{"noise": 1e39}, {"sampling_rate": 1e-320}])
def test_simulated_windows_stay_finite(options):
    with pytest.raises(ValueError, match="must give numbers of float32, got noise="):
        make_wearable(6, random_state=0, **options)
