"""q(z | class): arcs, wide neighbourhoods, and for large classes a small flow."""

import numpy as np
import pytest
import torch
from scipy import stats

import skflowfm._density as density_module
from skflowfm._density import (
    FLOW_CLASS_SIZE,
    Z_NOISE,
    RepresentationDensity,
    in_turn,
)
from skflowfm.nets.density import (
    arcs_between_neighbours,
    normal_in_neighbourhood,
    offsets_in_larger_classes,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def codes_of(*counts):
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


# ------------------------------------------------------------------------- arcs
def test_arcs_lead_from_a_row_to_each_of_its_neighbours():
    rows, parent = normal(12, 4), torch.full((5,), 3)
    which = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
    ends = []
    for place in (0.0, 1.0):
        picks = torch.stack([which, torch.full((5,), place)], dim=1)
        ends.append(arcs_between_neighbours(rows, parent, picks))
    nearest = (rows - rows[3]).norm(dim=1).argsort()[1:6]
    torch.testing.assert_close(ends[0], rows[parent], rtol=0, atol=1e-5)
    torch.testing.assert_close(ends[1], rows[nearest], rtol=0, atol=1e-5)


def test_arcs_turn_evenly_about_the_mean_of_the_neighbourhood():
    """Four corners of a square: every arc is a part of the circle through them."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    parent = torch.zeros(4000, dtype=torch.long)
    picks = uniform(4000, 2)
    points = arcs_between_neighbours(rows, parent, picks)
    others = points[picks[:, 0] < 2 / 3]  # the opposite corner is the last neighbour
    assert len(others) > 2000
    torch.testing.assert_close(others.norm(dim=1), torch.ones(len(others)))
    angle = torch.atan2(others[:, 1].abs(), others[:, 0])
    assert stats.kstest(angle / (np.pi / 2), "uniform").pvalue > 0.01


def test_of_many_rows_only_the_middle_of_an_arc_counts():
    """Twenty rows on two circles that lie far apart."""
    at = torch.arange(10) * (2 * np.pi / 10)
    flat = torch.stack([at.cos(), at.sin()], dim=1)
    apart = torch.tensor([[0.0, 0.0], [100.0, 0.0]])
    rows = torch.cat([flat + centre for centre in apart])
    picks = uniform(4000, 2)
    parent = torch.zeros(4000, dtype=torch.long)
    points = arcs_between_neighbours(rows, parent, picks)
    nearest = (rows - rows[0]).norm(dim=1).argsort()[:6]
    mean = rows[nearest].mean(dim=0)
    first = picks[:, 0] < 0.2
    basis = torch.stack([rows[0] - mean, rows[nearest[1]] - mean], dim=1)
    cos, sin = torch.linalg.solve(basis, (points[first] - mean).T)
    angle = torch.atan2(sin, cos) / (np.pi / 2)
    assert stats.kstest(angle, stats.uniform(0.4, 0.2).cdf).pvalue > 0.01


def test_arcs_keep_mean_and_variance():
    """On straight lines a third of the variance would be lost."""
    rows = normal(300, 64)
    points = arcs_between_neighbours(
        rows, torch.arange(30_000) % 300, uniform(30_000, 2)
    )
    share = points.var(dim=0).sum() / rows.var(dim=0).sum()
    assert 0.82 < share < 1.02
    error = (points.mean(dim=0) - rows.mean(dim=0)).norm() / rows.std(dim=0).norm()
    assert error < 0.1


def test_equal_rows_are_each_others_neighbours():
    parent = torch.zeros(50, dtype=torch.long)
    points = arcs_between_neighbours(torch.ones(3, 2), parent, uniform(50, 2))
    torch.testing.assert_close(points, torch.ones(50, 2))


# --------------------------------------------------------- small beside large classes
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("n_known", [1, 6, 20])
def test_a_small_class_reaches_as_far_as_large_ones_do(n_known, wide):
    """Rows of all classes scatter alike: by a wide normal in six dimensions."""
    deviation = torch.tensor([5.0, 3, 2, 1, 1, 1])
    centre = torch.tensor([[0.0] * 6, [20.0] * 6, [-20.0] * 6])
    codes = codes_of(400, 400, n_known)
    z = centre[codes] + deviation * normal(len(codes), 6)
    hidden = centre[2] + deviation * normal(500, 6, seed=1)

    def reach(rows):
        return torch.cdist(rows, z[codes == 2]).amin(dim=1).mean()

    density = RepresentationDensity(z, codes, gain=0.0, seed=0, wide=wide)
    drawn = density.draw(torch.full((500,), 2), seed=0)
    assert 0.55 < reach(drawn) / reach(hidden) < 0.95  # arcs: 0, .45 and .34


@pytest.mark.parametrize("scale", [0.0, 1e-5, 0.3, 3.0, 1e5])
def test_a_small_class_keeps_its_own_scale(scale):
    """Larger classes may lie much closer together, or much farther apart."""
    codes = codes_of(60, 8)
    z = torch.cat([scale * normal(60, 6) - 20, normal(8, 6, seed=1)])
    drawn = RepresentationDensity(z, codes, gain=0.0, seed=0).draw(
        torch.ones(500, dtype=torch.long), seed=0
    )
    reach = torch.cdist(drawn, z[60:]).amin(dim=1).median()
    assert 0.3 < reach / torch.cdist(normal(500, 6, seed=2), z[60:]).amin(1).mean() < 1


def test_classes_of_about_one_size_learn_nothing_from_each_other():
    rows = [normal(30, 3), normal(10, 3, seed=1), normal(39, 3, seed=2)]
    assert offsets_in_larger_classes(rows, 1) is None
    with_a_larger_one = [*rows, normal(40, 3, seed=3)]
    offsets = offsets_in_larger_classes(with_a_larger_one, 1)
    assert torch.equal(offsets, offsets_in_larger_classes(with_a_larger_one[1:], 0))
    assert offsets_in_larger_classes(with_a_larger_one, 0) is None


# ---------------------------------------------------------- wide neighbourhoods
def test_wide_draws_have_the_mean_and_covariance_of_the_neighbourhood():
    rows = normal(30, 3) @ normal(3, 3, seed=1) + 2
    parent = torch.arange(60_000) % 30
    points = normal_in_neighbourhood(rows, parent, normal(60_000, 40, seed=2))
    torch.testing.assert_close(points.mean(0), rows.mean(0), rtol=0, atol=0.05)
    expected = rows.T.cov()
    error = (points.T.cov() - expected).norm() / expected.norm()
    assert error < 0.03
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(expected), (points - rows.mean(0)).T, upper=False
    )
    assert stats.kstest(whitened[0], "norm").pvalue > 0.01


def test_wide_draws_stay_among_the_forty_nearest():
    far = torch.tensor([[100.0, 0.0]])
    rows = torch.cat([normal(40, 2), normal(40, 2, seed=1) + far])
    points = normal_in_neighbourhood(
        rows, torch.arange(8000) % 80, normal(8000, 40, seed=2)
    )
    left, right = points[points[:, 0] < 50], points[points[:, 0] > 50]
    assert len(left) == len(right) == 4000
    torch.testing.assert_close(left.mean(0), rows[:40].mean(0), rtol=0, atol=0.1)


def test_wide_draws_of_many_rows_vary_as_these_do():
    """A curve in twelve dimensions, more rows than a flow would need."""
    t = uniform(3000, 1) * 6
    z = torch.cat([(t * k / 6).cos() for k in range(1, 13)], dim=1)
    density = RepresentationDensity(
        z, torch.zeros(3000, dtype=torch.long), gain=0.0, seed=0, wide=True
    )
    points = density.draw(torch.zeros(3000, dtype=torch.long), seed=1)
    ratio = points.std(dim=0) / z.std(dim=0)
    assert (ratio - 1).abs().max() < 0.05
    assert torch.cdist(points, z).amin(dim=1).mean() < 0.05


def test_of_very_many_rows_some_make_the_neighbourhoods(monkeypatch):
    monkeypatch.setattr(density_module, "MOST_WIDE_ROWS", 50)
    z = normal(400, 3)
    density = RepresentationDensity(
        z, torch.zeros(400, dtype=torch.long), gain=0.0, seed=0, wide=True
    )
    codes = torch.zeros(4096 + 60, dtype=torch.long)
    points = density.draw(codes, seed=1)
    later = density.draw(codes[4096:], seed=1, first=4096, earlier=torch.tensor([4096]))
    assert torch.equal(points[4096:], later)
    assert (points.mean(dim=0) - z.mean(dim=0)).abs().max() < 0.3


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_wide_draws_need_few_rows(n_rows):
    density = RepresentationDensity(
        normal(n_rows, 2), codes_of(n_rows), gain=0.0, seed=0, wide=True
    )
    points = density.draw(torch.zeros(500, dtype=torch.long), seed=0)
    assert torch.isfinite(points).all()
    rank = np.linalg.matrix_rank(points - points.mean(0), tol=1e-3)
    assert rank == n_rows - 1


@pytest.mark.parametrize("k", [1, 7, 65])
def test_the_first_wide_draws_do_not_depend_on_how_many_there_are(k):
    density = RepresentationDensity(
        normal(90, 5), codes_of(15, 15, 60), gain=1.0, seed=0, wide=True
    )
    codes = mixed_codes(150)
    every = density.draw(codes, seed=3)
    assert torch.equal(density.draw(codes[:k], seed=3), every[:k])
    assert not torch.equal(density.draw(codes, seed=4), every)


@pytest.mark.parametrize("first", [0, 5, 4096])
def test_samples_take_the_rows_in_turn(first):
    sample = first + torch.arange(3 * 17)
    rows = in_turn(sample, 17, seed=0).reshape(3, 17)
    assert torch.equal(rows.sort(dim=1).values, torch.arange(17).expand(3, 17))
    assert torch.equal(rows[0], in_turn(sample[:17], 17, seed=0))
    assert not torch.equal(rows[0], in_turn(sample, 17, seed=1)[:17])


@pytest.mark.parametrize(("n_classes", "n_rows"), [(2, 10), (5, 20), (6, 6), (3, 7)])
def test_classes_asked_for_in_turn_take_all_their_rows(n_classes, n_rows, monkeypatch):
    """The distance of the places of one class must not pick some of its rows."""
    start_of_arc = "arcs_between_neighbours"
    monkeypatch.setattr(density_module, start_of_arc, lambda rows, at, u: rows[at])
    codes = torch.arange(n_classes).repeat_interleave(n_rows)
    z = torch.eye(n_classes * n_rows)
    density = RepresentationDensity(z, codes, gain=0.0, seed=0)
    asked = torch.arange(n_classes).repeat(n_rows)
    drawn = density.draw(asked, seed=1)
    assert torch.equal(drawn.sum(dim=0), torch.ones(len(z)))
    half = len(asked) // 2
    earlier = torch.bincount(asked[:half], minlength=n_classes)
    rest = density.draw(asked[half:], 1, half, earlier)
    torch.testing.assert_close(rest, drawn[half:])


# ------------------------------------------------------------------ rare classes
def test_draws_of_a_class_depend_on_its_rows_alone():
    z, codes = normal(21, 3), codes_of(4, 15, 2)
    other = torch.where(codes[:, None] == 1, z, 7.0)
    asked = torch.ones(40, dtype=torch.long)
    drawn = [
        RepresentationDensity(x, codes, 1.0, seed=0).draw(asked, 1) for x in (z, other)
    ]
    assert torch.equal(*drawn)


def test_draws_of_two_rows_lie_between_them():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    density = RepresentationDensity(rows, codes_of(2), gain=1.0, seed=0)
    drawn = density.draw(torch.zeros(500, dtype=torch.long), seed=1)
    torch.testing.assert_close(drawn[:, 1], drawn[:, 0] * 4 / 3)
    assert drawn[:, 0].min() >= -1e-5
    assert drawn[:, 0].max() <= 3 + 1e-5
    assert len(drawn[:, 0].unique()) > 400


@pytest.mark.parametrize("gain", [1.0, 25.0])
def test_class_of_one_row_is_that_row_and_noise(gain):
    z = 5 + normal(4, 6)
    density = RepresentationDensity(z, codes_of(3, 1), gain, seed=0)
    noise = density.draw(torch.ones(2000, dtype=torch.long), seed=2) - z[3]
    law = stats.norm(0, Z_NOISE * gain)
    assert stats.kstest(noise.flatten(), law.cdf).pvalue > 0.01


def test_draws_survive_the_largest_random_number(monkeypatch):
    """Row and neighbour are picked by a number below 1, however close to it."""

    def largest(seed, stream, start, n, size):
        return torch.full((n, size), 1 - 2.0**-53, dtype=torch.float64)

    monkeypatch.setattr(density_module, "counter_uniform", largest)
    density = RepresentationDensity(normal(9, 3), codes_of(7, 2), gain=0.0, seed=0)
    assert density.draw(torch.tensor([0, 1]), seed=0).isfinite().all()


def test_codes_survive_the_largest_random_number(monkeypatch):
    def largest(seed, stream, start, n, size):
        return torch.full((n, size), 1 - 2.0**-53, dtype=torch.float64)

    monkeypatch.setattr(density_module, "counter_uniform", largest)
    density = RepresentationDensity(normal(9, 3), codes_of(7, 2), gain=0.0, seed=0)
    assert density.draw_codes(1, seed=0).tolist() == [1]


# ------------------------------------------------------------------ flow
MEANS = torch.tensor([[12.0, 0.0, 0.1], [-4.0, 2.0, 0.1]])
DEVIATIONS = torch.tensor([[2.0, 0.5, 0.3], [1.0, 1.0, 0.3]])


@pytest.fixture(scope="module")
def mixture():
    """Two Gaussians and a class of five rows."""
    rows = [
        m + s * normal(400, 3, seed=k)
        for k, (m, s) in enumerate(zip(MEANS, DEVIATIONS, strict=True))
    ]
    rare = torch.tensor([0.0, 20.0, 0.0]) + normal(5, 3, seed=7)
    z = torch.cat([*rows, rare])
    return RepresentationDensity(z, codes_of(400, 400, 5), gain=1.0, seed=3), rare


@pytest.mark.parametrize("c", [0, 1])
def test_flow_recovers_mean_and_spread_of_each_class(mixture, c):
    density, _ = mixture
    drawn = density.draw(torch.full((2000,), c), seed=4)
    assert ((drawn.mean(dim=0) - MEANS[c]).abs() < 0.3 * DEVIATIONS[c]).all()
    ratio = drawn.std(dim=0) / DEVIATIONS[c]
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4


def test_rare_class_beside_large_ones_stays_near_its_rows(mixture):
    density, rare = mixture
    drawn = density.draw(torch.full((200,), 2), seed=4)
    reach = torch.cdist(drawn, rare).amin(dim=1)
    extent = torch.cdist(rare, rare).max()
    assert reach.median() < extent / 2
    assert reach.max() < 1.5 * extent


@pytest.fixture
def no_training(monkeypatch):
    """Flows stay as initialised: velocity 0, so draws are the scaled source."""
    monkeypatch.setattr(density_module, "train", lambda *_, **__: None)


def test_only_classes_of_twenty_rows_use_the_flow(no_training):
    sizes = (FLOW_CLASS_SIZE - 1, FLOW_CLASS_SIZE, 1)
    assert FLOW_CLASS_SIZE == 20
    z, codes = normal(40, 3), codes_of(*sizes)
    density = RepresentationDensity(z, codes, gain=0.0, seed=0)
    density.flow.draw = lambda x_0, classes: torch.full_like(x_0, 1e6)
    asked = codes_of(30, 30, 30)
    by_flow = density.draw(asked, seed=0).abs().amax(dim=1) > 1e5
    assert torch.equal(by_flow, asked == 1)


def test_a_flow_needs_rows_for_each_component(no_training):
    sizes = (59, 60)
    density = RepresentationDensity(normal(119, 10), codes_of(*sizes), 0.0, seed=0)
    assert density.uses_flow.tolist() == [False, True]


def test_without_a_large_class_no_flow_is_trained(monkeypatch):
    def train(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(density_module, "train", train)
    z = normal(2 * FLOW_CLASS_SIZE - 2, 3)
    size = FLOW_CLASS_SIZE - 1
    assert RepresentationDensity(z, codes_of(size, size), 1.0, seed=0).flow is None


def test_flow_learns_from_rows_of_large_classes_only(monkeypatch):
    seen = []

    def train(flow, draw, index, *_, **__):
        seen.append(draw(index, torch.Generator().manual_seed(0)))

    monkeypatch.setattr(density_module, "train", train)
    z, codes = normal(55, 3), codes_of(30, 5, 20)
    density = RepresentationDensity(z, codes, 1.0, seed=0)
    large = codes != 1
    assert torch.equal(seen[0]["classes"], codes[large])
    learned = seen[0]["x_1"] * density.scale + density.mean
    torch.testing.assert_close(learned, z[large], rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_flow(monkeypatch):
    budget = density_module.Budget
    monkeypatch.setattr(density_module, "Budget", lambda _, *rest: budget(10, *rest))
    z, codes = normal(40, 2), codes_of(20, 20)
    first, same, other = (
        RepresentationDensity(z, codes, 1.0, seed).draw(codes, seed=0)
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other, rtol=1e-3, atol=1e-3)


def test_flow_starts_from_its_seed(no_training):
    z, codes = normal(40, 2), codes_of(20, 20)
    first, same, other = (
        torch.nn.utils.parameters_to_vector(
            RepresentationDensity(z, codes, 1.0, seed).flow.parameters()
        )
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


# ------------------------------------------------------------------ draws
def mixed_codes(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 3, n))


@pytest.mark.parametrize("k", [0, 1, 5, 63, 64, 65, 150])
def test_first_draws_do_not_depend_on_how_many_there_are(mixture, k):
    density, _ = mixture
    codes = mixed_codes(150)
    few = density.draw(codes[:k], seed=9)
    assert few.shape == (k, 3)
    assert torch.equal(few, density.draw(codes, seed=9)[:k])


def test_the_flow_always_runs_on_blocks_of_one_size(no_training):
    """Sums then come in the same order, whatever else is asked for."""
    density = RepresentationDensity(normal(20, 3), codes_of(20), 1.0, seed=0)
    sizes = []
    density.flow.draw = lambda x_0, classes: sizes.append(len(x_0)) or x_0
    for n in (1, density_module.BLOCK, 3 * density_module.BLOCK + 1):
        density.draw(torch.zeros(n, dtype=torch.long), seed=0)
    assert sizes == 6 * [density_module.BLOCK]


@pytest.mark.parametrize("row", [0, 70])
def test_another_class_elsewhere_changes_later_rows_of_few_at_most(mixture, row):
    """Those of a class of few rows take them in turn: they count what came before."""
    density, _ = mixture
    codes = mixed_codes(100)
    before = density.draw(codes, seed=9)
    other = codes.clone()
    other[row] = (codes[row] + 1) % 3
    after = density.draw(other, seed=9)
    place = torch.arange(100)
    keep = (place < row) | (place > row) & (codes != 2)
    assert torch.equal(after[keep], before[keep])
    assert not torch.equal(after[row], before[row])
    one = torch.ones_like(codes)
    assert torch.equal(density.draw(one, seed=9)[codes == 1], before[codes == 1])


def test_draws_depend_on_the_seed(mixture):
    density, _ = mixture
    codes = mixed_codes(50)
    first, other = (density.draw(codes, seed=s) for s in (1, 2))
    assert torch.equal(density.draw(codes, seed=1), first)
    assert ((first - other).abs().amax(dim=1) > 1e-4).all()


def test_codes_come_as_often_as_in_fit():
    counts = np.array([10, 1, 6, 3])
    density = RepresentationDensity(normal(20, 2), codes_of(*counts), 1.0, seed=0)
    codes = density.draw_codes(20_000, seed=5)
    observed = torch.bincount(codes, minlength=4).numpy()
    assert stats.chisquare(observed, 1000 * counts).pvalue > 0.01
    assert torch.equal(density.draw_codes(100, seed=5), codes[:100])
    assert not torch.equal(density.draw_codes(100, seed=6), codes[:100])


def test_codes_are_not_tied_to_the_representations_drawn():
    """Class and place within the class are independent."""
    z = torch.linspace(0, 1, 19)[:, None]
    density = RepresentationDensity(
        torch.cat([z, z]), codes_of(19, 19), gain=0.0, seed=0
    )
    codes = density.draw_codes(4000, seed=3)
    drawn = density.draw(codes, seed=3)[:, 0]
    p = stats.ks_2samp(drawn[codes == 0], drawn[codes == 1]).pvalue
    assert p > 0.01


def test_how_far_a_variant_goes_does_not_depend_on_towards_which_row():
    z = 100 * torch.eye(5)
    density = RepresentationDensity(z, torch.zeros(5, dtype=torch.long), 1.0, 0)
    moved = density.vary(z[:1].expand(5000, 5), 1.0, 0) / 100
    for towards in moved.T[1:]:
        assert towards[towards > 0].mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_largest_uniform_number_still_has_a_neighbour(monkeypatch):
    z = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    codes = torch.zeros(30, dtype=torch.long)
    density = RepresentationDensity(z, codes, gain=0.0, seed=0)
    monkeypatch.setattr(
        density_module,
        "counter_uniform",
        lambda seed, stream, first, n, size: torch.full(
            (n, size), 1 - 2.0**-53, dtype=torch.float64
        ),
    )
    assert density.vary(z, 1.0, 0).shape == z.shape
