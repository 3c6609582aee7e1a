"""stream: the results of one call, for rows that come bit by bit."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import skflowfm._sampling
from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer, stream
from skflowfm._stream import written


def table(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3)).cumsum(axis=1)


@pytest.fixture(scope="module")
def model():
    return FlowFMTransformer(4, max_steps=5, random_state=0).fit(table(60))


@pytest.fixture(scope="module")
def classifier(model):
    X = table(60)
    y = np.where(X[:, 2] > 0, "up", "down")
    frozen = FrozenEstimator(model)
    return FlowFMClassifier(frozen, strategy="head", random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def sampler(model):
    y = np.array(list("ab"))[(table(60)[:, 1] > 0).astype(int)]
    return FlowFMSampler(FrozenEstimator(model), quality=1, random_state=3).fit(
        table(60), y
    )


def cut(X, *sizes):
    return np.split(X, np.cumsum(sizes))


@pytest.mark.parametrize("name", ["transform", "score_samples"])
def test_blocks_give_what_one_call_gives(model, name):
    X, method = table(700), getattr(model, name)
    results = list(stream(method, iter(cut(X, 1, 0, 300))))
    assert [len(r) for r in results] == [1, 300, 399]  # nothing for nothing
    np.testing.assert_allclose(np.concatenate(results), method(X), atol=1e-5)


def test_blocks_of_512_give_it_to_the_bit(model):
    X = table(1100)
    whole = model.transform(X)
    results = list(stream(model.transform, X))  # row by row
    assert [len(r) for r in results] == [512, 512, 76]
    np.testing.assert_array_equal(np.concatenate(results), whole)


def test_single_rows_and_blocks_may_be_mixed(model):
    X = table(30)
    mixed = [X[0], X[1], X[2:20], X[20], list(X[21]), X[22:].tolist()]
    results = list(stream(model.transform, mixed))
    assert [len(r) for r in results] == [2, 18, 2, 8]
    np.testing.assert_allclose(np.concatenate(results), model.transform(X), atol=1e-5)


def test_a_reader_may_use_its_array_again(model):
    X, buffer = table(20), np.empty(3)

    def reader():
        for row in X:
            buffer[:] = row
            yield buffer

    (result,) = stream(model.transform, reader())
    np.testing.assert_array_equal(result, model.transform(X))


def test_nothing_is_read_before_it_is_asked_for(model):
    read = []

    def reader():
        for k in range(5):
            read.append(k)
            yield table(4, k)

    results = stream(model.transform, reader())
    assert not read
    next(results)
    next(results)
    assert read == [0, 1]


def test_frames_keep_their_names(tmp_path):
    X = pd.DataFrame(table(60), columns=list("abc"))
    model = FlowFMTransformer(4, max_steps=1, random_state=0).fit(X)
    X.to_csv(tmp_path / "X.csv", index=False)
    with pd.read_csv(tmp_path / "X.csv", chunksize=25) as reader:
        Z = np.concatenate(list(stream(model.transform, reader)))
    np.testing.assert_allclose(Z, model.transform(X), atol=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        list(stream(model.transform, [X.rename(columns={"a": "z"})]))


def test_pipelines_searches_and_frozen_models(model):
    X, y = table(60), np.arange(60) % 2
    pipe = make_pipeline(FrozenEstimator(model), LogisticRegression()).fit(X, y)
    search = GridSearchCV(pipe, {"logisticregression__C": [1.0]}, cv=2).fit(X, y)
    for fitted in (pipe, search):
        got = np.concatenate(list(stream(fitted.predict_proba, cut(X, 10))))
        np.testing.assert_allclose(got, fitted.predict_proba(X), atol=1e-5)
    (Z,) = stream(FrozenEstimator(model).transform, [X])
    np.testing.assert_array_equal(Z, model.transform(X))


def test_results_go_to_a_memory_map(classifier, tmp_path):
    X = table(500)
    out = np.lib.format.open_memmap(tmp_path / "p.npy", "w+", np.float32, (600, 2))
    filled = stream(classifier.predict_proba, cut(X, 100, 333), out=out)
    assert filled.shape == (500, 2)
    again = np.load(tmp_path / "p.npy")
    np.testing.assert_allclose(again[:500], classifier.predict_proba(X), atol=1e-5)
    assert not again[500:].any()


def test_out_without_room_is_refused(model, classifier):
    X = table(10)
    with pytest.raises(ValueError, match=r"must have room for .* 6 rows filled"):
        stream(model.transform, cut(X, 6), out=np.empty((9, 4), np.float32))
    with pytest.raises(ValueError, match=r"shape \('n', 4\).* got out.shape=\(10, 5\)"):
        stream(model.transform, [X], out=np.empty((10, 5), np.float32))
    with pytest.raises(ValueError, match="dtype <U4"):  # "down" would be cut
        stream(classifier.predict, [X], out=np.empty(10, "U3"))
    with pytest.raises(ValueError, match="dtype float32"):
        stream(model.transform, [X], out=np.empty((10, 4), int))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([table(5), table(5)[:, :2]], r"shape \(3,\) as in fit.*\(5, 2\) at place 1"),
        ([np.ones(4)], r"got shape \(4,\) at place 0.*resample_windows"),
        ([3.0], r"got shape \(\) at place 0"),
        (pd.DataFrame(table(2)).iterrows(), r"parts that differ \(tuple\) at place 0"),
        ([[[1.0, 2.0, 3.0], [1.0]]], r"parts that differ \(list\) at place 0"),
    ],
)
def test_rows_of_another_shape_are_refused_by_place(model, blocks, message):
    with pytest.raises(ValueError, match=message):
        list(stream(model.transform, blocks))


def test_what_is_no_stream_is_refused(model):
    with pytest.raises(TypeError, match=r"must be an iterable of rows .*, got 7"):
        stream(model.transform, 7)
    with pytest.raises(TypeError, match="method must be a method of a fitted"):
        stream(np.mean, [table(5)])
    other = LogisticRegression().fit(table(6), [0, 1] * 3)
    with pytest.raises(TypeError, match="got one of LogisticRegression"):
        stream(other.predict, [table(5)])
    with pytest.raises(NotFittedError):
        stream(FlowFMTransformer().transform, [table(5)])
    for learns in (model.fit, model.fit_transform, model.partial_fit):
        with pytest.raises(TypeError, match="which learns from them"):
            stream(learns, [table(5)])
    with pytest.raises(TypeError, match=r"got inverse_transform\. Call it"):
        stream(model.inverse_transform, [np.zeros((5, 4))])
    with pytest.raises(ValueError, match="verbose must be a bool or an integer"):
        stream(model.transform, [table(5)], verbose="loud")
    with pytest.raises(NotFittedError):
        stream(FlowFMSampler().sample, 5)


def test_progress_is_one_line(model, capsys):
    list(stream(model.transform, cut(table(50), 20), verbose=1))
    line, end = capsys.readouterr().out.split("\n")
    assert line.startswith("50 rows, ")
    assert not end
    list(stream(model.transform, cut(table(50), 20)))
    assert not capsys.readouterr().out


# ------------------------------------------------------------------------------ draws
def test_a_stream_of_more_rows_than_memory_holds_begins(sampler):
    first = next(stream(sampler.sample, 10**15))
    np.testing.assert_array_equal(first[:100], sampler.sample(100))


def test_draws_are_those_of_one_call(sampler):
    blocks = list(stream(sampler.sample, 9000))
    assert [len(block) for block in blocks] == [4096, 4096, 808]
    assert np.concatenate(blocks).tobytes() == sampler.sample(9000).tobytes()


def test_draws_of_classes_are_those_of_one_call(sampler):
    y = np.array(list("ab"))[np.random.default_rng(0).integers(2, size=5000)]
    drawn = stream(sampler.sample, y, out=np.empty((5000, 3), np.float32))
    assert drawn.tobytes() == sampler.sample(y=y).tobytes()


def test_variants_and_fillings_are_those_of_one_call(sampler):
    """The noise of a row goes by its place in the whole stream, not in its block."""
    X = np.repeat(table(1), 30, axis=0)
    blocks = list(stream(sampler.sample_like, cut(X, 4, 20)))
    np.testing.assert_allclose(
        np.concatenate(blocks), sampler.sample_like(X), atol=1e-5
    )
    X[:, 1] = np.nan
    blocks = np.concatenate(list(stream(sampler.impute, cut(X, 4, 20))))
    np.testing.assert_allclose(blocks, sampler.impute(X), atol=1e-5)
    assert len(np.unique(blocks[:, 1])) == 30


def test_a_method_of_a_subclass_is_called(sampler):
    class Sevens(FlowFMSampler):
        def impute(self, X, *, random_state=None):
            return np.full_like(X, 7)

    own = Sevens(FrozenEstimator(sampler.transformer_)).fit(table(60))
    assert (np.concatenate(list(stream(own.impute, [table(3)]))) == 7).all()


def test_draws_from_a_flow_are_those_of_one_call(model):
    sampler = FlowFMSampler(FrozenEstimator(model), quality=2, random_state=0)
    sampler.fit(table(60))  # one class, of enough rows for a flow
    assert sampler._density.flow is not None
    blocks = list(stream(sampler.sample, 4200))
    assert np.concatenate(blocks).tobytes() == sampler.sample(4200).tobytes()


def test_a_stream_of_draws_without_a_seed_has_one(model):
    sampler = FlowFMSampler(FrozenEstimator(model), quality=1).fit(table(60))
    first, second = stream(sampler.sample, 8192)
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 8192


def test_bad_requests_for_draws_are_refused(model, sampler):
    with pytest.raises(ValueError, match="n_samples must be an integer"):
        stream(sampler.sample, 2.5)
    with pytest.raises(ValueError, match="'c'"):
        stream(sampler.sample, ["a", "c"])
    unlabelled = FlowFMSampler(FrozenEstimator(model), random_state=0).fit(table(60))
    with pytest.raises(ValueError, match="fit had no labels"):
        stream(unlabelled.sample, ["a"])


# ----------------------------------------------------------------------------- memory
PEAK = """
import sys, threading, time
import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skflowfm import FlowFMClassifier, FlowFMTransformer, stream
torch.set_num_threads(1)

def private():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if "RssAnon" in line) / 1024

X = np.load(sys.argv[1], mmap_mode="r")
some = np.array(X[:200])
model = FlowFMTransformer(8, max_steps=1, random_state=0).fit(some)
clf = FlowFMClassifier(FrozenEstimator(model), strategy="head")
clf.fit(some, np.arange(200) % 2)

def peak(function, rows):
    highest, done = 0.0, False
    def watch():
        nonlocal highest
        while not done:
            highest = max(highest, private())
            time.sleep(0.002)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    function(rows)
    done = True
    watcher.join()
    return highest

def measured(function, rows):
    few = peak(function, rows[: len(rows) // 3])
    print(peak(function, rows) - few)

measured(model.transform, X)
measured(clf.predict_proba, X)
measured(model.score_samples, X[: len(X) // 4])

def streamed(rows):
    return list(stream(clf.predict, np.array_split(rows, len(rows) // 500)))

measured(streamed, X)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shape", [(20_000, 500), (8_000, 3, 60)])
def test_rows_of_a_memory_map_do_not_pile_up(shape, tmp_path):
    """Three times as many rows take no more memory.

    The table has 80 MB, the features of all windows would have 130. Pages of the file
    do not count, and the allocator is told to give back at once what is freed.
    """
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float64, shape)
    rng = np.random.default_rng(0)
    for start in range(0, len(X), 1000):
        X[start : start + 1000] = rng.normal(size=(1000, *shape[1:]))
    X.flush()
    at_once = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **at_once},
    )
    grown = [float(line) for line in done.stdout.split()]
    print(f"MB: {grown}")
    assert len(grown) == 4
    assert max(grown) < 20


def test_what_out_cannot_hold_is_refused(model):
    with pytest.raises(TypeError, match="out must be an array"):
        stream(model.transform, [], out=[0] * 9)
    for out in (torch.zeros(9), np.array(0.0)):
        with pytest.raises(TypeError, match="an array or a memory map with rows"):
            stream(model.transform, [table(3)], out=out)
    for_reading = np.broadcast_to(np.float32(0), (9, 4))
    with pytest.raises(ValueError, match="out must be writeable"):
        stream(model.transform, [table(3)], out=for_reading)
    for result, dtype in ((1000, np.int8), (1e6, np.float16), (-1, np.uint8)):
        with pytest.raises(ValueError, match="out must have room"):
            list(written([np.array([result])], np.zeros(1, dtype)))
    assert written([np.array([100])], np.zeros(1, np.int8)).tolist() == [100]


def test_frames_and_their_rows_are_read_by_name():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
    model = FlowFMTransformer(2, max_steps=1, random_state=0).fit(X)
    (block,) = stream(model.transform, X)
    (rows,) = stream(model.transform, (X.iloc[i] for i in range(40)))
    np.testing.assert_array_equal(block, model.transform(X))
    np.testing.assert_allclose(rows, model.transform(X), atol=1e-6)
    with pytest.raises(ValueError, match="feature names"):
        list(stream(model.transform, (X[list("cba")].iloc[i] for i in range(40))))


@pytest.mark.parametrize("kind", [np.asarray, pd.Series])
def test_a_reader_may_use_its_row_again(model, kind):
    X, buffer = table(20), np.empty(3)

    def reader():
        for row in X:
            buffer[:] = row
            yield kind(buffer)

    (Z,) = stream(model.transform, reader())
    np.testing.assert_allclose(Z, model.transform(X), atol=1e-5)


def test_a_small_class_is_drawn_in_turn_over_all_blocks(model, monkeypatch):
    monkeypatch.setattr(skflowfm._sampling, "ROWS_AT_A_TIME", 4)
    sampler = FlowFMSampler(FrozenEstimator(model), quality=1, random_state=3)
    sampler.fit(table(60)[:10], np.array(list("ab"))[np.arange(10) % 2])
    y = np.array(list("ab"))[np.arange(14) % 2]  # four blocks, both classes in each
    drawn = np.concatenate(list(stream(sampler.sample, y)))
    np.testing.assert_array_equal(drawn, sampler.sample(y=y))
