"""The solvers against problems solved in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skflowfm.flow_matching import sample_source
from skflowfm.ode import SOLVERS, adams_bashforth, bent_times, integrate

every_solver = pytest.mark.parametrize("solver", SOLVERS)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# Each: velocity, start, value at t = 1. All depend on time, and on x as well.
PROBLEMS = {
    "growth at a rising rate": (
        lambda x, t: 3 * t**2 * x,
        double(0.5, 2.0),
        double(0.5, 2.0) * math.e,
    ),
    "nonlinear": (
        lambda x, t: 2 * t * x**2,
        double(0.5, -2.0),
        double(0.5 / (1 - 0.5), -2.0 / (1 + 2.0)),
    ),
    "decay to a moving target": (
        lambda x, t: math.sin(3 * t) - x,
        double(1.0),
        double((math.sin(3) - 3 * math.cos(3)) / 10 + 1.3 * math.exp(-1)),
    ),
}


@every_solver
@pytest.mark.parametrize("problem", PROBLEMS)
def test_error_falls_with_the_stated_order(problem, solver):
    v, x_0, x_1 = PROBLEMS[problem]
    n_steps = np.array([32, 64, 128, 256])
    errors = [(integrate(v, x_0, n, solver) - x_1).abs().max() for n in n_steps]
    slope = np.polyfit(np.log(1 / n_steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(SOLVERS[solver].order, abs=0.1)


@every_solver
@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_evaluations_per_step_are_as_stated(solver, n_steps):
    times = []

    def v(x, t):
        times.append(t)
        return x

    integrate(v, torch.ones(2), n_steps, solver)
    assert len(times) == n_steps * SOLVERS[solver].nfe_per_step
    assert times[0] == 0
    assert times == sorted(times)
    assert times[-1] <= 1 + 1e-12


def test_midpoint_never_evaluates_the_end():
    times = []
    integrate(lambda x, t: times.append(t) or x, torch.ones(1), 5, "midpoint")
    assert max(times) == pytest.approx(0.9)


@every_solver
@pytest.mark.parametrize("n_steps", [1, 3, 10])
def test_constant_velocity_is_followed_exactly(solver, n_steps):
    x_0, velocity = double(1.0, -2.0, 0.3), double(0.7, 0.0, -4.0)
    x_1 = integrate(lambda x, t: velocity, x_0, n_steps, solver)
    torch.testing.assert_close(x_1, x_0 + velocity, rtol=0, atol=1e-14)


@pytest.mark.parametrize("solver", ["euler", "adams", "midpoint"])
@pytest.mark.parametrize("n_steps", [1, 4, 9])
def test_straight_paths_to_a_point_are_followed_exactly(solver, n_steps):
    """Data of a single row: every path is straight, at unequal speeds in x."""
    target = double(3.0, -1.0)
    x_0 = double(0.2, 5.0)
    x_1 = integrate(lambda x, t: (target - x) / (1 - t), x_0, n_steps, solver)
    torch.testing.assert_close(x_1, target, rtol=0, atol=1e-13)


@pytest.mark.parametrize("stop", [0.5, 0.75, 1.0])
def test_adams_is_exact_where_velocity_is_linear_in_time(stop):
    """From the second step on; the first is Euler's, and short."""
    times = bent_times(6, stop)
    x_0, x_1 = double(1.0), double(1.0 + times[1])
    x_end = adams_bashforth(lambda x, t: double(1.0 + 3 * t), x_0, times)
    exact = x_1 + (stop - times[1]) + 1.5 * (stop**2 - times[1] ** 2)
    torch.testing.assert_close(x_end, exact, rtol=0, atol=1e-14)


@given(st.integers(1, 50), st.floats(0.1, 1.0))
def test_bent_times_rise_from_the_source_to_the_stop(n_steps, stop):
    """Steps are shortest at the source, or at the data where it is gone on to them."""
    times = np.array(bent_times(n_steps, stop))
    assert times[0] == 0
    assert times[-1] == pytest.approx(stop)
    steps = np.diff(times)
    assert (steps > 0).all()
    assert (np.diff(steps if stop < 1 else steps[::-1]) > 0).all()


@every_solver
def test_start_is_not_written_to(solver):
    x_0 = torch.ones(3)
    integrate(lambda x, t: -x, x_0, 3, solver)
    assert torch.equal(x_0, torch.ones(3))


# ------------------------------------------------------------------ Gaussian target
MEAN = double(2.0, -1.0, 0.0)
COVARIANCE = torch.tensor(
    [[1.5, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.2]], dtype=torch.float64
)


def gaussian_velocity(x, t):
    """The marginal velocity that carries N(0, I) to N(MEAN, COVARIANCE)."""
    identity = torch.eye(3, dtype=torch.float64)
    cross = t * COVARIANCE - (1 - t) * identity
    marginal = (1 - t) ** 2 * identity + t**2 * COVARIANCE
    return MEAN + (x - t * MEAN) @ torch.linalg.solve(marginal, cross)


def root(covariance):
    variances, axes = torch.linalg.eigh(covariance)
    return axes * variances.sqrt() @ axes.T


@pytest.fixture(scope="module")
def source():
    generator = torch.Generator().manual_seed(0)
    return sample_source((20_000, 3), generator).double()


@pytest.mark.parametrize(
    ("solver", "n_steps", "error"), [("midpoint", 200, 1e-3), ("rk4", 100, 1e-6)]
)
def test_every_source_row_arrives_where_the_exact_flow_takes_it(
    source, solver, n_steps, error
):
    """For a Gaussian the flow from 0 to 1 is x -> mean + covariance^(1/2) x."""
    x_1 = integrate(gaussian_velocity, source[:500], n_steps, solver)
    exact = MEAN + source[:500] @ root(COVARIANCE)
    torch.testing.assert_close(x_1, exact, rtol=0, atol=error)


def test_gaussian_moments_are_recovered(source):
    x_1 = integrate(gaussian_velocity, source, 32)
    n = len(x_1)
    variances = COVARIANCE.diagonal()
    assert ((x_1.mean(dim=0) - MEAN).abs() < 4 * (variances / n).sqrt()).all()
    sampling_error = ((variances[:, None] * variances + COVARIANCE**2) / n).sqrt()
    assert ((x_1.T.cov() - COVARIANCE).abs() < 4 * sampling_error).all()


def energy_test(a, b, n_permutations=500):
    """Return the permutation p-value of the energy distance between two samples."""
    rng = np.random.default_rng(0)
    both = torch.cat([a, b])
    distance = torch.cdist(both, both).numpy()

    def energy(sign):  # minus the mean over pairs of equal sign, plus of unequal
        return -(sign @ distance @ sign)

    sign = np.repeat([1.0, -1.0], [len(a), len(b)])
    observed = energy(sign)
    draws = [energy(rng.permutation(sign)) for _ in range(n_permutations)]
    return (1 + np.sum(draws >= observed)) / (1 + n_permutations)


@pytest.mark.slow
def test_solved_and_direct_draws_cannot_be_told_apart(source):
    rng = np.random.default_rng(1)
    direct = torch.from_numpy(
        rng.multivariate_normal(MEAN.numpy(), COVARIANCE.numpy(), 1000)
    )
    assert energy_test(integrate(gaussian_velocity, source[:1000], 16), direct) > 0.01
    crude = integrate(gaussian_velocity, source[:1000], 1, "euler")
    assert energy_test(crude, direct) < 0.01


@every_solver
@pytest.mark.parametrize("stop", [0.5, 0.75, 0.875])
def test_an_early_stop_lands_on_the_estimate_of_the_data(solver, stop):
    """All data at 2: the exact field's estimate is 2 wherever it is asked."""
    times = []

    def v(x, t):
        times.append(t)
        return (2 - x) / (1 - t)

    x = integrate(v, double(-1.0, 5.0), 3, solver, stop)
    torch.testing.assert_close(x, double(2.0, 2.0))
    assert max(times) == pytest.approx(stop)
    assert len(times) == 3 * SOLVERS[solver].nfe_per_step + 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_steps": 0},
        {"n_steps": -1},
        {"n_steps": 2.5},
        {"stop": 0.0},
        {"stop": 1.5},
        {"solver": "heun"},
    ],
)
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a whole number of steps"):
        integrate(lambda x, t: x, torch.ones(1), **{"n_steps": 2, **wrong})
