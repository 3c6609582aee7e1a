"""From a recording to windows at 30 Hz: what is known going in is known coming out."""

import numpy as np
import pytest

from skflowfm.datasets._recordings import Recording, cut, resample


def ramp(time):
    """Three channels that interpolation reproduces exactly."""
    return np.column_stack([time, -2 * time, 0 * time + 1])


def recording(time, values=None, labels=0.0):
    values = ramp(time) if values is None else values
    return Recording(1, "file", time, values, labels)


def at(rate, seconds):
    return np.arange(round(seconds * rate)) / rate


def cut_at_20_hz(time, values=None, labels=0.0, step=300, max_gap=0.5):
    return cut(recording(time, values, labels), 20, step, max_gap)


# ------------------------------------------------------------------ resampling
@pytest.mark.parametrize("rate", [20, 30, 32])
def test_low_rates_are_interpolated_onto_30_hz(rate):
    time = 5 + at(rate, 10)
    grid, resampled = resample(time, ramp(time), rate)
    assert len(grid) == 1 + int((time[-1] - time[0]) * 30)
    np.testing.assert_allclose(grid, 5 + np.arange(len(grid)) / 30)
    np.testing.assert_allclose(resampled, ramp(grid), atol=1e-12)


@pytest.mark.parametrize("rate", [50, 100])
def test_a_slow_wave_at_a_high_rate_comes_through_unchanged(rate):
    time = 5 + at(rate, 20)
    grid, resampled = resample(time, np.sin(2 * np.pi * 3 * time)[:, None], rate)
    assert len(grid) == 600
    np.testing.assert_allclose(grid, 5 + np.arange(600) / 30)
    inside = slice(30, -30)
    expected = np.sin(2 * np.pi * 3 * grid)
    np.testing.assert_allclose(resampled[inside, 0], expected[inside], atol=5e-3)


def test_a_wave_too_fast_for_30_hz_is_removed_and_not_folded_into_a_slow_one():
    time = at(100, 20)  # 27 Hz would be seen as 3 Hz
    _, resampled = resample(time, np.sin(2 * np.pi * 27 * time)[:, None], 100)
    assert abs(resampled[30:-30]).max() < 0.01


def test_gravity_comes_through_a_filter_unchanged_to_the_ends():
    time = at(50, 20)
    _, resampled = resample(time, np.ones((len(time), 1)), 50)
    np.testing.assert_allclose(resampled, 1, atol=2e-3)


def test_jitter_of_the_time_stamps_is_made_up_for():
    time = at(50, 20)
    time[1:-1] += np.random.default_rng(0).uniform(-0.005, 0.005, len(time) - 2)
    grid, resampled = resample(time, np.sin(2 * np.pi * time)[:, None], 50)
    error = resampled[30:-30, 0] - np.sin(2 * np.pi * grid[30:-30])
    assert abs(error).max() < 0.01


# ------------------------------------------------------------------ windows
def test_windows_start_every_step_and_hold_the_resampled_signal():
    windows = cut_at_20_hz(at(20, 31), labels=4.0, step=150)
    np.testing.assert_allclose(windows.start, [0, 5, 10, 15, 20])
    assert windows.labels.tolist() == [4] * 5
    assert windows.X.dtype == np.float32
    for x, start in zip(windows.X, windows.start, strict=True):
        np.testing.assert_allclose(x, ramp(start + at(30, 10)).T, atol=1e-5)


@pytest.mark.parametrize("seconds", [0, 0.05, 9.9])
def test_what_is_shorter_than_a_window_gives_none(seconds):
    windows = cut_at_20_hz(at(20, seconds))
    assert windows.X.shape == (0, 3, 300)
    assert windows.labels.shape == windows.start.shape == (0,)


def test_320_samples_at_32_hz_are_one_window_and_319_none():
    time = np.arange(320) / 32
    assert len(cut(recording(time), 32, 300, 0.5).X) == 1
    assert len(cut(recording(time[1:]), 32, 300, 0.5).X) == 0


def test_samples_in_any_order_give_the_same_windows():
    time = at(20, 25)
    values = np.random.default_rng(0).normal(size=(len(time), 3))
    labels = np.where(time < 12, 1.0, 2.0)
    order = np.random.default_rng(1).permutation(len(time))
    expected = cut_at_20_hz(time, values, labels)
    assert expected.labels.tolist() == [1, 2]
    got = cut_at_20_hz(time[order], values[order], labels[order])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_of_repeated_time_stamps_the_first_sample_counts():
    time = at(20, 25)
    values = ramp(time)
    again = np.arange(100, 200)
    expected = cut_at_20_hz(time, values)
    got = cut_at_20_hz(
        np.concatenate([time, time[again]]),
        np.concatenate([values, 99 + values[again]]),
    )
    np.testing.assert_array_equal(got.X, expected.X)


def test_a_short_gap_is_interpolated_whether_nan_or_absent():
    time = at(20, 20)
    gap = slice(100, 109)  # 9 samples: 0.5 s between those around it
    holes = ramp(time)
    holes[gap, 1] = np.nan  # one missing axis is enough
    for got in (
        cut_at_20_hz(time, holes),
        cut_at_20_hz(np.delete(time, gap), np.delete(holes, gap, axis=0)),
    ):
        assert got.start.tolist() == [0]
        np.testing.assert_allclose(got.X[0], ramp(at(30, 10)).T, atol=1e-5)


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_a_longer_gap_cuts_the_recording_and_windows_start_anew(missing):
    time = at(20, 40)
    values = ramp(time)
    values[220:231, 0] = missing  # from 11 s up to 11.55 s
    windows = cut_at_20_hz(time, values)
    np.testing.assert_allclose(windows.start, [0, 11.55, 21.55])
    np.testing.assert_allclose(windows.X[1], ramp(11.55 + at(30, 10)).T, atol=1e-5)
    assert cut_at_20_hz(time, values, max_gap=0.7).start.tolist() == [0, 10, 20]


def test_a_recording_without_any_value_gives_no_window():
    time = at(20, 20)
    assert len(cut_at_20_hz(time, np.full((len(time), 3), np.nan)).X) == 0


@pytest.mark.parametrize(("keep_every", "n_windows"), [(1, 3), (2, 0)])
def test_a_window_needs_three_quarters_of_its_samples(keep_every, n_windows):
    time = at(20, 31)[::keep_every]
    assert len(cut_at_20_hz(time).X) == n_windows


def test_just_enough_samples_are_enough():
    time = at(20, 10.05)  # the 201st closes the window
    assert len(cut_at_20_hz(np.delete(time, np.arange(3, 198, 4))).X) == 1  # 151 of 200
    few = np.delete(time, [*np.arange(3, 198, 4), 50, 100])  # 149
    assert len(cut_at_20_hz(few).X) == 0


# ------------------------------------------------------------------ labels
def test_a_window_takes_the_activity_that_fills_half_of_it():
    time = at(20, 30.05)
    labels = np.full(len(time), np.nan)
    labels[:100] = 7  # half of the first window
    labels[200:290] = 7  # 45 % of the second
    labels[400:520], labels[520:] = 3, 7  # 60 % and 40 % of the third
    windows = cut_at_20_hz(time, labels=labels)
    assert windows.start.tolist() == [0, 20]
    assert windows.labels.tolist() == [7, 3]


@pytest.mark.parametrize("half", [slice(0, 100), slice(100, 201)])
def test_between_two_samples_the_nearer_label_counts(half):
    time = at(20, 10.05)
    labels = np.full(len(time), np.nan)
    labels[half] = 7  # 150 of 300 at 30 Hz, to either side of 4.975 s
    assert cut_at_20_hz(time, labels=labels).labels.tolist() == [7]
    labels[half.start + 50 : half.start + 53] = np.nan
    assert cut_at_20_hz(time, labels=labels).labels.tolist() == []


def test_no_activity_at_all_gives_no_window():
    time = at(20, 30)
    assert len(cut_at_20_hz(time, labels=np.full(len(time), np.nan)).X) == 0


def test_the_arrays_of_a_recording_stay_as_they_are():
    time, labels = at(20, 30)[::-1].copy(), np.ones(600)
    values = ramp(time)
    values[100:120] = np.nan
    arrays = [time, values, labels]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    cut_at_20_hz(time, values, labels)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
