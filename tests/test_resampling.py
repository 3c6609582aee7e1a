"""The sampling_strategy grammar, against imbalanced-learn's own."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skflowfm._resampling import append_rows, cast_like, rows_like, rows_to_add

check_sampling_strategy = pytest.importorskip("imblearn.utils").check_sampling_strategy

labels = st.lists(st.integers(0, 3), min_size=4, max_size=60).filter(
    lambda y: len(set(y)) > 1
)


@pytest.mark.parametrize(
    "word", ["minority", "not minority", "not majority", "all", "auto"]
)
@given(y=labels)
def test_words_ask_for_what_imbalanced_learn_asks_for(word, y):
    y = np.array(y)
    expected = check_sampling_strategy(word, y, "over-sampling")
    ours = rows_to_add(word, y)
    assert {c: n for c, n in ours.items() if n} == {
        int(c): int(n) for c, n in expected.items() if n
    }


@given(y=labels, extra=st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_dicts_are_totals(y, extra):
    y = np.array(y)
    classes, counts = np.unique(y, return_counts=True)
    wanted = {int(c): int(n) + extra[c] for c, n in zip(classes, counts, strict=True)}
    expected = check_sampling_strategy(wanted, y, "over-sampling")
    assert rows_to_add(wanted, y) == {int(c): int(n) for c, n in expected.items()}
    assert rows_to_add(lambda _: wanted, y) == rows_to_add(wanted, y)


@given(few=st.integers(1, 30), many=st.integers(1, 60), ratio=st.floats(0.01, 1.0))
def test_floats_are_ratios(few, many, ratio):
    assume(few < many)
    assume(int(ratio * many) > few)  # imbalanced-learn refuses to add nothing
    y = np.repeat([0, 1], [many, few])
    added = rows_to_add(ratio, y)
    assert added == {1: int(ratio * many) - few}
    assert check_sampling_strategy(ratio, y, "over-sampling") == added


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("majority", "must be one of"),
        (0.1, "below the ratio"),
        (1.5, "in \\(0, 1\\]"),
        ({0: 3}, "fewer rows than there are: class 0 has 8"),
        ({5: 9}, "asks for classes \\[5\\] that y lacks"),
        ({0: 9.5}, "whole totals"),
        (None, "must be one of"),
        (True, "must be one of"),
        ([0, 1], "must be one of"),
    ],
)
def test_bad_strategies(strategy, message):
    with pytest.raises(ValueError, match=message):
        rows_to_add(strategy, np.repeat([0, 1], [8, 4]))


def test_a_ratio_needs_two_classes():
    with pytest.raises(ValueError, match="needs two classes, y has 3"):
        rows_to_add(0.9, np.arange(3))


def test_a_continuous_target_is_refused():
    with pytest.raises(ValueError, match="Unknown label type: 'continuous'"):
        rows_to_add("auto", np.array([0.1, 0.7, 1.3]))


def test_integers_are_rounded_and_kept_in_range():
    new = np.array([-300.0, -1.6, 0.4, 254.6, 1e9], dtype=np.float32)
    np.testing.assert_array_equal(
        cast_like(new, np.dtype(np.uint8)), [0, 0, 0, 255, 255]
    )
    np.testing.assert_array_equal(
        cast_like(new, np.dtype(np.int16)), [-300, -2, 0, 255, 32767]
    )


def test_frames_keep_their_dtypes_and_index_names():
    frame = pd.DataFrame(
        {
            "count": np.array([1, 2], dtype=np.int32),
            "flag": [True, False],
            "nullable": pd.array([3, 4], dtype="Int64"),
            "value": np.array([0.5, 1.5], dtype=np.float32),
        }
    )
    new = rows_like(np.array([[2.7, 0.9, 5.2, 0.25]], dtype=np.float32), frame)
    both = append_rows(frame, new)
    assert both.dtypes.equals(frame.dtypes)
    assert both.iloc[2].tolist() == [3, True, 5, 0.25]
    pd.testing.assert_frame_equal(both.iloc[:2], frame)


def test_duplicate_column_names_survive():
    frame = pd.DataFrame(np.ones((2, 2)), columns=["a", "a"])
    new = rows_like(np.array([[1.0, 2.0]], dtype=np.float32), frame)
    assert list(new.columns) == ["a", "a"]
    assert new.to_numpy().tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint8"])
def test_the_largest_integers_do_not_wrap_round(dtype):
    info = np.iinfo(dtype)
    new = cast_like(np.array([-1e30, 1e30], dtype=np.float32), np.dtype(dtype))
    assert int(new[0]) == info.min
    assert info.max * (1 - 1e-6) < int(new[1]) <= info.max


@pytest.mark.parametrize("dtype", ["UInt8", "Int8", "UInt64"])
def test_nullable_integers_are_kept_in_range(dtype):
    frame = pd.DataFrame({"n": pd.array([1, 2], dtype=dtype)})
    rows = rows_like(np.array([[-300.0], [300.0], [3.4]], dtype=np.float32), frame)
    assert rows["n"].dtype == dtype
    expected = {"UInt8": [0, 255, 3], "Int8": [-128, 127, 3], "UInt64": [0, 300, 3]}
    assert rows["n"].tolist() == expected[dtype]


def test_columns_of_objects_hold_what_they_held():
    like = pd.DataFrame(
        {
            "flag": pd.Series([True, False], dtype=object),
            "count": pd.Series([3, 4], dtype=object),
            "size": pd.Series([0.5, 2], dtype=object),
        }
    )
    new = rows_like(np.array([[0.7, 2.6, 1.25], [0.2, -1.2, 3.5]]), like)
    expected = {"flag": [True, False], "count": [3, -1], "size": [1.25, 3.5]}
    pd.testing.assert_frame_equal(new, pd.DataFrame(expected, dtype=object))
    assert [type(value) for value in new.iloc[0]] == [bool, int, float]
