"""The diffusion counterpart, on its own terms: closed forms and known distributions."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator

from skflowfm import FlowFMTransformer
from skflowfm._building import on_meta
from skflowfm.datasets import make_wearable
from skflowfm.flow_matching import sample_source, sample_time
from skflowfm.nets import VectorVelocityField

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load_by_path(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diffusion = load_by_path("_diffusion")
ALPHA_BAR = diffusion.cosine_alpha_bar()
SAMPLERS = [("ancestral", 1000), ("ddim", 250)]
WEIGHTS, MEANS = np.array([0.3, 0.7]), np.array([[-3.0, 1.5], [1.5, -0.5]])
DEVIATIONS = np.array([0.3, 0.6])
N_STEPS = 600


# -------------------------------------------------------------------------- oracles
class Mixture:
    """Isotropic Gaussians: the expected noise in x_k is known at each step.

    x_k is a mixture as well, with means sqrt(a) m and variances a s^2 + 1 - a; the
    expected noise is minus sqrt(1 - a) times the gradient of its log-density.
    """

    def __init__(self, weights, means, deviations):
        as_tensor = torch.as_tensor
        self.weights, self.deviations = as_tensor(weights), as_tensor(deviations)
        self.means = as_tensor(means)  # (n_parts, n_features)

    def draw(self, n, generator):
        part = torch.multinomial(self.weights, n, True, generator=generator)
        noise = torch.randn(
            n, self.means.shape[1], generator=generator, dtype=torch.float64
        )
        return self.means[part] + self.deviations[part, None] * noise

    def noise(self, x, step):
        kept = ALPHA_BAR[step].reshape(-1, 1, 1)  # over rows, parts, features
        variance = kept * self.deviations[:, None] ** 2 + 1 - kept
        away = x[:, None] - kept.sqrt() * self.means
        log_part = self.weights.log() - 0.5 * (
            (away.square() / variance).sum(2) + x.shape[1] * variance[..., 0].log()
        )
        score = -(log_part.softmax(1)[..., None] * away / variance).sum(1)
        return -(1 - kept[:, 0]).sqrt() * score


def gaussian(mean, deviation):
    return Mixture([1.0], [[mean]], [deviation])


def drawn(oracle, n, n_features, method, n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, n_features, generator=generator, dtype=torch.float64)
    eta = diffusion.ETA[method]
    x = diffusion.reverse(oracle, noise, ALPHA_BAR, n_steps, eta, generator)
    return x.numpy()


# -------------------------------------------------------------------------- schedule
def test_schedule_falls_from_one_to_zero_along_a_cosine():
    assert len(ALPHA_BAR) == 1000
    assert (ALPHA_BAR.diff() < 0).all()
    assert 1 > ALPHA_BAR[0] > 0.9999
    assert 0 < ALPHA_BAR[-1] < 1e-6
    # (k + 1) / 1000 = 0.496 is half of the way with the offset: a right angle's half
    at_half = math.cos(math.pi / 4) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert ALPHA_BAR[495] == pytest.approx(at_half, rel=1e-9)
    at_third = 0.75 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert ALPHA_BAR[327] == pytest.approx(at_third, rel=1e-9)
    betas = 1 - ALPHA_BAR[1:] / ALPHA_BAR[:-1]
    assert betas.max() == pytest.approx(0.999)
    assert (betas[:-1] < betas[-1]).all()


def test_training_times_of_the_flow_become_uniform_steps(seeded):
    t = sample_time(40_000, seeded(0))
    step = diffusion.step_of(t)
    assert step.min() >= 0
    assert step.max() < 1000
    counts = np.bincount(step.numpy() // 20, minlength=50)
    assert stats.chisquare(counts).pvalue > 0.01
    assert diffusion.step_of(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 500, 999]


@pytest.mark.parametrize("n_steps", [1, 10, 250, 1000])
def test_steps_go_down_evenly_and_have_the_number_that_was_asked_for(n_steps):
    steps = diffusion.subsequence(n_steps)
    assert len(set(steps)) == n_steps
    gaps = np.diff(steps)
    assert (gaps < 0).all()
    assert 0 <= min(steps) <= max(steps) <= 999
    assert n_steps == 1 or gaps.max() - gaps.min() <= 1


# -------------------------------------------------------------------------- the loss
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (2.0, 0.5), (-1.0, 3.0)])
def test_loss_at_the_gaussian_oracle_is_the_variance_that_is_left(mean, deviation):
    """Var(eps | x_k) = a s^2 / (a s^2 + 1 - a), averaged over the steps."""
    generator = torch.Generator().manual_seed(0)
    n = 100_000
    x_1 = gaussian(mean, deviation).draw(n, generator)
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    step = torch.randint(1000, (n,), generator=generator)
    data = ALPHA_BAR * deviation**2
    expected = float((data / (data + 1 - ALPHA_BAR)).mean())

    def loss(oracle):
        return diffusion.noise_loss(oracle, x_1, noise, step, ALPHA_BAR)

    least = loss(gaussian(mean, deviation).noise)
    assert least.shape == (n,)
    error = float(least.std() / n**0.5)
    assert float(least.mean()) == pytest.approx(expected, abs=4 * error)
    assert error < 0.01
    for other in (gaussian(mean + 0.3, deviation), gaussian(mean, 1.2 * deviation)):
        more = loss(other.noise) - least  # paired: the same draws
        assert more.mean() > 5 * more.std() / n**0.5


def test_weights_count_coordinates(seeded):
    x_1, noise = (torch.randn(3, 2, generator=seeded(s)) for s in (0, 1))
    step, weight = torch.tensor([0, 500, 999]), torch.tensor([2.0, 0.0])
    loss = diffusion.noise_loss(
        lambda x, k: torch.zeros_like(x), x_1, noise, step, ALPHA_BAR.float(), weight
    )
    torch.testing.assert_close(loss, noise[:, 0].square())


# --------------------------------------------------------------------- the samplers
def test_one_ancestral_step_is_the_posterior_of_ddpm():
    """Its mean and variance in the words of Ho et al., equations 6 and 7."""
    k, n = 400, 20_000
    alpha_bar = ALPHA_BAR[: k + 1]
    alpha = ALPHA_BAR[k] / ALPHA_BAR[k - 1]
    beta, before = 1 - alpha, ALPHA_BAR[k - 1]
    x_k, x_1 = 0.7, -0.4
    eps = (x_k - ALPHA_BAR[k].sqrt() * x_1) / (1 - ALPHA_BAR[k]).sqrt()
    seen = []

    def predict(x, step):
        seen.append((step, x))
        return torch.full_like(x, float(eps))

    noise = torch.full((n, 1), x_k, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    diffusion.reverse(predict, noise, alpha_bar, k + 1, 1.0, generator)
    assert [step for step, _ in seen[:2]] == [k, k - 1]
    after = seen[1][1]
    mean = (before.sqrt() * beta * x_1 + alpha.sqrt() * (1 - before) * x_k) / (
        1 - ALPHA_BAR[k]
    )
    variance = (1 - before) / (1 - ALPHA_BAR[k]) * beta
    standard_error = float((variance / n).sqrt())
    assert float(after.mean()) == pytest.approx(float(mean), abs=4 * standard_error)
    assert float(after.var()) == pytest.approx(float(variance), rel=0.05)


@pytest.mark.parametrize(("method", "n_steps"), SAMPLERS)
@pytest.mark.parametrize(("mean", "deviation"), [(2.0, 0.5), (-1.0, 3.0)])
def test_samplers_recover_a_gaussian_from_its_oracle(method, n_steps, mean, deviation):
    x = drawn(gaussian(mean, deviation).noise, 4000, 1, method, n_steps)
    assert x.mean() == pytest.approx(mean, abs=4 * deviation / 4000**0.5)
    assert x.std() == pytest.approx(deviation, rel=0.05)


def check_mixture(x, n_sigma=4.0, rel=0.1):
    """Weights, means and deviations are those of the mixture above."""
    first = x[:, 0] - x[:, 1] < -2.33  # five deviations from either mean
    n = len(x)
    tolerance = n_sigma * (WEIGHTS[0] * WEIGHTS[1] / n) ** 0.5
    assert first.mean() == pytest.approx(WEIGHTS[0], abs=tolerance)
    for part, mean, deviation in zip((first, ~first), MEANS, DEVIATIONS, strict=True):
        error = n_sigma * deviation / part.sum() ** 0.5
        np.testing.assert_allclose(x[part].mean(axis=0), mean, atol=error)
        np.testing.assert_allclose(x[part].std(axis=0), deviation, rtol=rel)


@pytest.mark.parametrize(("method", "n_steps"), SAMPLERS)
def test_samplers_recover_a_mixture_from_its_oracle(method, n_steps):
    check_mixture(
        drawn(Mixture(WEIGHTS, MEANS, DEVIATIONS).noise, 4000, 2, method, n_steps)
    )


def test_ancestral_and_ddim_agree_in_distribution():
    oracle = Mixture(WEIGHTS, MEANS, DEVIATIONS).noise
    a = drawn(oracle, 2000, 2, "ancestral", 1000, seed=1)
    b = drawn(oracle, 2000, 2, "ddim", 250, seed=2)
    for direction in ([1, 0], [0, 1], [1, -1]):
        assert stats.ks_2samp(a @ direction, b @ direction).pvalue > 0.01


def test_ddim_adds_no_noise_and_ancestral_adds_that_of_its_seed():
    oracle, noise = gaussian(0.0, 1.0).noise, torch.zeros(50, 1, dtype=torch.float64)

    def run(eta, seed):
        generator = torch.Generator().manual_seed(seed)
        return diffusion.reverse(oracle, noise, ALPHA_BAR, 1000, eta, generator)

    assert torch.equal(run(0.0, 0), run(0.0, 1))
    assert torch.equal(run(1.0, 0), run(1.0, 0))
    assert len((run(1.0, 0) - run(1.0, 1)).unique()) == 50


def test_predicted_rows_are_clipped(seeded):
    noise = torch.randn(20, 3, generator=seeded())
    low, high = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([1.0, 0.5, 3.0])
    x = diffusion.reverse(
        lambda x, k: torch.zeros_like(x), noise, ALPHA_BAR, 20, bounds=(low, high)
    )
    assert (x >= low).all()
    assert (x <= high).all()


# --------------------------------------------------------------------- trained nets
def test_a_small_trained_net_recovers_a_mixture(seeded):
    rng = seeded(0)
    net = on_meta(VectorVelocityField, rng, 2, 0, 64, 2)
    optimiser = torch.optim.AdamW(net.parameters())
    mixture, alpha_bar = Mixture(WEIGHTS, MEANS, DEVIATIONS), ALPHA_BAR.float()

    def predict(x, step):
        return net(x, 1 - (step + 1) / 1000, None)

    for k in range(N_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * 0.5 * (1 + math.cos(math.pi * k / N_STEPS))
        x_1 = mixture.draw(256, rng).float()
        noise = sample_source((256, 2), rng)
        step = torch.randint(1000, (256,), generator=rng)
        loss = diffusion.noise_loss(predict, x_1, noise, step, alpha_bar).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    noise = sample_source((2000, 2), rng)
    with torch.inference_mode():
        x = diffusion.reverse(
            lambda x, k: predict(x, torch.full((len(x),), float(k))),
            noise,
            alpha_bar,
            50,
        )
    check_mixture(x.numpy(), n_sigma=8.0, rel=0.2)


@pytest.fixture(scope="module")
def windows():
    X, y, groups = make_wearable(70, n_timesteps=40, random_state=0, return_X_y=True)
    return X, y, groups


@pytest.fixture(scope="module")
def fitted(windows):
    X = windows[0]
    transformer = diffusion.DiffusionTransformer(16, max_steps=20, random_state=0)
    return transformer.fit(X)


def sampler(fitted, windows, **parameters):
    frozen = FrozenEstimator(fitted)
    return diffusion.DiffusionSampler(frozen, random_state=0, **parameters).fit(
        *windows[:2]
    )


def test_it_trains_what_the_flow_trains(fitted, windows):
    X = windows[0]
    flow = FlowFMTransformer(16, max_steps=0, random_state=0).fit(X)
    start = diffusion.DiffusionTransformer(16, max_steps=0, random_state=0).fit(X)
    for name, weights in flow.module_.state_dict().items():
        assert torch.equal(weights, start.module_.state_dict()[name]), name
    names = [name for name, _ in flow.module_.named_parameters()]
    assert names == [name for name, _ in fitted.module_.named_parameters()]
    losses = fitted.history_["train_flow"]
    assert losses.iloc[-1] < 1  # what predicting no noise at all would cost
    assert fitted.transform(X).shape == (len(X), 16)


def test_samples_have_their_classes_and_depend_on_the_seed_only(fitted, windows):
    drawer = sampler(fitted, windows, method="ancestral", n_steps=5)
    X, y = drawer.sample(class_counts={0: 66, 2: 9}, random_state=1)
    assert np.bincount(y).tolist() == [66, 0, 9]
    assert X.shape == (75, *windows[0].shape[1:])
    assert np.isfinite(X).all()
    again, _ = drawer.sample(class_counts={0: 66, 2: 9}, random_state=1)
    np.testing.assert_array_equal(X, again)
    fewer = drawer.sample(n_samples=20, y=0, random_state=1)
    np.testing.assert_array_equal(X[:20], fewer)
    other = drawer.sample(n_samples=20, y=0, random_state=2)
    assert not np.isclose(fewer, other).any(axis=(1, 2)).all()


def test_no_two_blocks_share_the_noise_of_the_steps(fitted, windows):
    """Noise that all blocks of 64 shared would tie row i to row 64 + i."""
    model = fitted.module_
    z = torch.zeros(64, 16)
    x_0 = sample_source((128, 3, 42), torch.Generator().manual_seed(0))
    alike = x_0[64:].clone()
    alike[1:] = x_0[1:64]
    with torch.inference_mode():
        a = model.decode(z, x_0[:64], 5, "ancestral")
        b = model.decode(z, alike, 5, "ancestral")
        c, d = (model.decode(z, x, 5, "ddim") for x in (x_0[:64], alike))
    assert not torch.isclose(a[1:], b[1:]).flatten(1).all(dim=1).any()
    torch.testing.assert_close(c[1:], d[1:])


def test_mended_samples_have_the_spectra_of_real_ones(fitted, windows, spectral_error):
    X, y = windows[:2]
    counts = dict(enumerate(np.bincount(y).tolist()))
    drawer = sampler(fitted, windows, n_steps=5)
    before = spectral_error(X, drawer.sample(class_counts=counts)[0])
    after = spectral_error(X, drawer.mend(X).sample(class_counts=counts)[0])
    assert after < before / 3


def test_method_and_steps_may_change_after_fit(fitted, windows):
    drawer = sampler(fitted, windows, method="ddim", n_steps=5)
    five = drawer.sample(3)
    ten = drawer.set_params(n_steps=10).sample(3)
    assert not np.allclose(five, ten)
    for wrong in ({"n_steps": 0}, {"n_steps": 1001}, {"method": "heun"}):
        drawer.set_params(**{"n_steps": 10, "method": "ddim", **wrong})
        with pytest.raises(ValueError, match="expected a method"):
            drawer.sample(1)
