"""What a training step sees: which rows, which views of them, and what is held out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn

from skflowfm import FlowFMTransformer, _training
from skflowfm._budget import Budget, Plan
from skflowfm._draws import (
    MIN_POOL,
    VISITS_PER_ROW,
    Batches,
    hold_out,
    ignore,
    pool,
    prepare,
    private_generator,
)
from skflowfm._positives import (
    CACHE_ROWS,
    CachedViews,
    LiveViews,
    nearest_rows,
    prepared,
)
from skflowfm._validation import Rows
from skflowfm.nets import PrincipalComponents
from skflowfm.nets.views import window_view


@pytest.fixture(scope="module")
def rows():
    draws = np.random.default_rng(0).normal(size=(2 * CACHE_ROWS + 10, 2, 20))
    return Rows(draws.astype(np.float32))


@pytest.fixture(scope="module")
def model(rows):
    return FlowFMTransformer(8, max_steps=0, random_state=0).fit(rows.array).module_


def cached(model, rows, view=window_view, held_out=(), budget=None, alignment=1.0):
    """Return the views that a training would be given."""
    held_out = torch.tensor(held_out, dtype=torch.long)
    index = torch.arange(len(rows))
    index = index[~torch.isin(index, held_out)]
    plan = Plan(budget or Budget(10, None, 8), 0, alignment=alignment)
    draw, index, held_out = prepare(model, rows, index, held_out, view, 0.1, plan)
    return draw.views, index, held_out


@pytest.mark.parametrize(
    ("max_steps", "expected"),
    [(1, MIN_POOL), (10_000, 10_000 * 64 // VISITS_PER_ROW), (10**9, 200_000)],
)
def test_a_pool_is_what_the_budget_can_visit(max_steps, expected):
    index, held_out = torch.arange(200_000), torch.arange(50_000)
    kept, watched = pool(index, held_out, Budget(max_steps, None, 64))
    assert len(kept) == expected
    assert len(watched) <= len(held_out)
    assert torch.equal(kept, index[:expected])


def test_one_pass_takes_every_row():
    index = torch.arange(10_000)
    kept, _ = pool(index, index[:0], Budget(157, None, 64, decay=False))
    assert torch.equal(kept, index)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([60] * 10, 60),
        ([300, 300], 300),
        ([590, 110], 110),
        ([700], 0),
        ([40, 660], 40),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_whole_groups_of_at_most_half_of_the_rows_are_held_out(sizes, expected, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    generator = private_generator(seed)
    index, held_out = hold_out(len(groups), 0.1, groups, generator)
    assert len(held_out) == expected
    assert not set(groups[index]) & set(groups[held_out])
    assert sorted([*index.tolist(), *held_out.tolist()]) == list(range(len(groups)))


@pytest.mark.parametrize("seed", range(3))
def test_more_than_half_of_the_rows_are_held_out_where_that_is_asked(seed):
    groups = np.repeat(np.arange(10), 20)
    index, held_out = hold_out(200, 0.6, groups, private_generator(seed))
    assert (len(index), len(held_out)) == (80, 120)


def test_cached_views_are_features_of_views_of_that_row(model, rows):
    """Row i of the result comes from row i of the data, whatever is asked for."""
    doubled, *_ = cached(model, rows, view=lambda x, generator: 2 * x)
    index = torch.tensor([130, 3, 64, 3])
    features, first, _ = doubled(index, None, private_generator(1))
    x = model.standardise(rows[index])
    torch.testing.assert_close(features, model.stem(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first, model.stem(2 * x), rtol=1e-3, atol=1e-3)


def test_second_views_are_of_one_of_the_near_rows_equally_often(model, rows):
    views, *_ = cached(model, rows)
    index = torch.arange(len(rows)).repeat(50)
    _, _, other = views(index, None, private_generator(1))
    near = views.features[views.near[index], 2]
    same = (other[:, None] == near).all(dim=2)
    assert same.any(dim=1).all()
    drawn = same.float().mean(dim=0)
    assert torch.allclose(drawn, torch.full((5,), 0.2), atol=0.03)


def test_neighbours_are_sought_among_a_bounded_number_of_rows(model, rows, monkeypatch):
    monkeypatch.setattr("skflowfm._positives.MAX_CANDIDATES", 40)
    views, *_ = cached(model, rows)
    assert len(views.near) == len(rows)
    assert views.near.max() < 40


def test_near_rows_are_those_at_the_smallest_angle_among_the_training_rows():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(30, 4)).astype(np.float32)
    features *= rng.uniform(0.1, 10, size=(30, 1)).astype(np.float32)
    found = nearest_rows(torch.from_numpy(features), 20).numpy()
    for row, near in enumerate(found):
        cosine = [
            np.dot(features[row], other)
            / (np.linalg.norm(features[row]) * np.linalg.norm(other))
            if i != row
            else -np.inf
            for i, other in enumerate(features[:20])
        ]
        assert set(near) == set(np.argsort(cosine)[-5:])


@pytest.mark.parametrize("n_train", [1, 2, 4])
def test_few_rows_have_fewer_neighbours(n_train):
    features = torch.randn(n_train, 3, generator=private_generator(0))
    near = nearest_rows(features, n_train)
    assert near.shape == (n_train, max(1, n_train - 1))
    if n_train > 1:
        assert (near != torch.arange(n_train)[:, None]).all()


def test_two_views_of_a_row_differ(model, rows):
    index = torch.arange(len(rows))
    views, *_ = cached(model, rows)
    features, first, other = views(index, None, private_generator(1))
    for a, b in ((features, first), (features, other), (first, other)):
        assert not torch.isclose(a, b).all(dim=1).any()
    views, *_ = cached(model, rows, alignment=0.0)
    assert len(views(index, None, None)) == 1


def test_held_out_rows_are_prepared_after_the_others(model, rows):
    wanted = list(range(0, len(rows), 3))
    views, index, held_out = cached(model, rows, held_out=wanted)
    assert held_out.tolist() == wanted
    assert len(index) + len(held_out) == len(views.near) == len(rows)
    assert views.near.max() < len(index)


def test_without_views_the_row_itself_is_seen(model, rows):
    index = torch.tensor([5, 70])
    views, *_ = cached(model, rows, view=None)
    features, first, _ = views(index, None, private_generator(1))
    expected = model.stem(model.standardise(rows[index]))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(features, first)
    assert torch.equal(views.features[:, 0], views.features[:, 2])


def test_preparation_ends_with_its_share_of_the_time(model, rows):
    late = Budget(None, 1e-6, 8)
    assert len(cached(model, rows, budget=late)[1]) == CACHE_ROWS
    assert len(cached(model, rows)[1]) == len(rows)


def test_time_left_after_preparation_is_what_the_rate_falls_over():
    budget = Budget(None, 1e6, 8)
    budget.started -= 4e5
    budget.begin()
    assert budget.spent() == pytest.approx(0, abs=1e-6)
    budget.started -= 3e5
    assert budget.spent() == pytest.approx(0.5, abs=1e-6)


# ------------------------------------------------------------- principal components
@pytest.mark.parametrize("shape", [(50, 6), (20, 40)], ids=["long", "wide"])
def test_principal_components_are_those_of_scikit_learn(shape):
    rng = np.random.default_rng(1)
    X = (rng.normal(size=shape) * np.linspace(3, 1, shape[1])).astype(np.float32)
    ours = PrincipalComponents(shape[1], 5)
    ours.fit(torch.from_numpy(X))
    fresh = rng.normal(size=(7, shape[1])).astype(np.float32)
    reference = PCA(5).fit(X)
    scale = np.sqrt(np.mean(reference.transform(X) ** 2))
    got, expected = ours(torch.from_numpy(fresh)).numpy(), reference.transform(fresh)
    np.testing.assert_allclose(np.abs(got), np.abs(expected / scale), rtol=1e-3)


def test_principal_components_of_equal_rows_are_zero():
    ours = PrincipalComponents(3, 2)
    ours.fit(torch.ones(5, 3))
    assert torch.equal(
        ours(torch.randn(4, 3, generator=private_generator(0))).abs() > 0,
        torch.zeros(4, 2, dtype=torch.bool),
    )


def prepared_numbers(index, held_out, seconds=0.0):
    """Return what is prepared of rows that are their own numbers, and of which rows."""
    budget = SimpleNamespace(max_time=1.0, seconds=seconds)

    def itself(part):
        return part[:, None, None].float()

    return prepared(itself, index, held_out, (1,), budget, ignore)


def test_cached_features_are_those_of_the_rows_asked_for():
    order = torch.randperm(300, generator=private_generator(0))
    views, some = CachedViews(*prepared_numbers(order[:200], order[200:])), order[::7]
    features = views(some, None, private_generator(0))[0]
    assert torch.equal(features[:, 0], some.float())


@pytest.mark.parametrize(("seconds", "n_prepared"), [(0.3, 300), (0.5, 64)])
def test_preparation_ends_after_two_fifths_of_the_time(seconds, n_prepared):
    _, index, _ = prepared_numbers(torch.arange(300), torch.arange(0), seconds)
    assert len(index) == n_prepared


def test_two_views_are_two_draws():
    def noisy(x, generator):
        return x + torch.randn(x.shape, generator=generator)

    views = LiveViews(nn.Identity(), noisy, True)
    _, one, other = views(None, torch.zeros(4, 3), private_generator(0))
    assert not torch.equal(one, other)


def test_batches_are_of_one_size_and_repeat_no_row():
    budget = SimpleNamespace(batch_size=40, decay=True)
    batches = Batches(None, torch.arange(100), budget, private_generator(0))
    assert [len(batches.next_index().unique()) for _ in range(9)] == [40] * 9


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(0, 99))
def test_what_is_held_out_of_groups_is_enough_to_watch_or_nothing(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    generator = torch.Generator().manual_seed(seed)
    index, held_out = hold_out(len(groups), 0.2, groups, generator)
    assert len(held_out) == 0 or 32 <= len(held_out) <= len(groups) / 2
    assert not set(groups[index.numpy()]) & set(groups[held_out.numpy()])
    assert sorted(torch.cat([index, held_out]).tolist()) == list(range(len(groups)))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 100, 127, 190, 640])
def test_one_pass_takes_each_row_once_in_even_batches(n):
    index, taken = torch.arange(n) + 7, []

    def draw(some, generator):
        taken.append(some)
        return {"t": some}

    steps = -(-n // 64)
    budget = Budget(steps, None, 64, decay=False)
    for _ in Batches(draw, index, budget, torch.Generator().manual_seed(0)):
        budget.n_steps += 1
    assert sorted(torch.cat(taken).tolist()) == index.tolist()
    assert len(taken) == steps
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


@pytest.mark.parametrize(
    ("n_held_out", "seconds", "n_trained", "n_watched"),
    [(100, 0.5, 64, 0), (200, 0.5, 64, 64), (100, 0.3, 200, 100), (10, 0.3, 290, 10)],
)
def test_where_time_is_short_a_share_of_either_is_prepared(
    n_held_out, seconds, n_trained, n_watched
):
    order = torch.randperm(300, generator=private_generator(0))
    index, held_out = order[n_held_out:], order[:n_held_out]
    features, trained, watched = prepared_numbers(index, held_out, seconds)
    assert len(trained) >= n_trained
    assert len(watched) >= n_watched
    assert torch.equal(trained, index[: len(trained)])
    assert torch.equal(watched, held_out[: len(watched)])
    if len(watched):
        share = len(watched) / len(trained)
        assert share == pytest.approx(n_held_out / (300 - n_held_out), rel=0.1)
    assert torch.equal(features.flatten(), torch.cat([trained, watched]).float())


def test_a_table_s_held_out_rows_cost_no_more_than_its_training(monkeypatch):
    watched = []

    class Recorded(_training.FixedBatches):
        def __init__(self, draw, index, *others):
            watched.append(len(index))
            super().__init__(draw, index, *others)

    class Counted(_training.Batches):
        def __init__(self, draw, index, *others):
            nonlocal alone
            alone = index
            super().__init__(draw, index, *others)

    alone = None
    monkeypatch.setattr(_training, "Batches", Counted)
    monkeypatch.setattr(_training, "FixedBatches", Recorded)
    X = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    FlowFMTransformer(2, max_steps=10, random_state=0).fit(X)
    assert watched == [400]
    assert len(alone) == 20_000  # none is lost to the field


@given(st.lists(st.integers(1, 60), min_size=10, max_size=30), st.integers(0, 99))
def test_a_large_group_does_not_keep_small_ones_from_being_held_out(sizes, seed):
    groups = np.repeat(np.arange(len(sizes) + 1), [*sizes, 2 * sum(sizes) + 200])
    generator = torch.Generator().manual_seed(seed)
    held_out = hold_out(len(groups), 0.2, groups, generator)[1]
    assert (len(held_out) > 0) == (sum(sizes) >= 32)
    assert len(sizes) not in groups[held_out.numpy()]
