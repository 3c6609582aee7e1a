r"""The diffusion counterpart: the same system with a DDPM in place of the flow.

Encoder, network, coordinates, data, views, alignment, noise on z, batches, optimiser,
schedule of the learning rate and early stopping are those of
:class:`~skflowfm.FlowFMTransformer`; so are the initial weights of a seed. Only the
loss and the sampler differ. With :math:`\epsilon \sim \mathcal N(0, I)` (the draw that
the flow uses as its source), a step k, uniform on 0, ..., 999, and the cosine schedule
[2]_ :math:`\bar\alpha_k`,

.. math::

    x_k = \sqrt{\bar\alpha_k}\, x_1 + \sqrt{1 - \bar\alpha_k}\, \epsilon, \qquad
    \mathcal L = \mathbb E \lVert \hat\epsilon(x_k, k, z) - \epsilon \rVert^2 .

**Times.** k = 0 is almost data, k = 999 noise, against the package's convention. The
network is told :math:`t = 1 - (k + 1) / 1000`: 0 is noise, as in the package, and 1
would be data.

**Sampling** steps down a subsequence of k by one formula [3]_ that has Gaussian
noise of its own (``eta=1``; over all 1000 steps this is the ancestral sampler of DDPM
[1]_ with the posterior's variance) or none (``eta=0``: DDIM). The predicted row is
clipped to the range that each kind of coordinate has in training, as is customary.

References
----------
.. [1] J. Ho, A. Jain and P. Abbeel, "Denoising Diffusion Probabilistic Models",
       NeurIPS 2020.
.. [2] A. Nichol and P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
       ICML 2021.
.. [3] J. Song, C. Meng and S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.
"""

import inspect
import math

import torch
from torch import Tensor

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm._generation import Steps, decode
from skflowfm._steps import gain_of
from skflowfm._validation import Rows
from skflowfm.flow_matching import UNIFORM_TIME_SHARE, like_rows, sample_source
from skflowfm.nets import JointModel
from skflowfm.nets.coordinates import equalised

N_TIMES = 1000
OFFSET = 0.008
LARGEST_BETA = 0.999
ETA = {"ancestral": 1.0, "ddim": 0.0}


# ------------------------------------------------------------------------ the method
def cosine_alpha_bar(n_times: int = N_TIMES) -> Tensor:
    r"""Return :math:`\bar\alpha_0, ..., \bar\alpha_{n - 1}`, falling, in float64.

    :math:`\bar\alpha_k = f(k + 1) / f(0)`, f(k) the squared cosine of
    :math:`(k / n + 0.008) / 1.008 \cdot \pi / 2`, but no step removes more than 0.999
    of what is left.
    """
    at = torch.arange(n_times + 1, dtype=torch.float64) / n_times
    f = ((at + OFFSET) / (1 + OFFSET) * math.pi / 2).cos().square()
    return (f[1:] / f[:-1]).clamp_min(1 - LARGEST_BETA).cumprod(0)


def uniform_of(t: Tensor) -> Tensor:
    """Turn training times of the flow into uniform numbers.

    :func:`skflowfm.flow_matching.sample_time` draws a mixture of a uniform and a
    logit-normal law. Its distribution function, applied to a draw, gives a uniform
    number. So the training draws can stay as they are.
    """
    logit_normal = torch.special.ndtr(torch.logit(t))
    return UNIFORM_TIME_SHARE * t + (1 - UNIFORM_TIME_SHARE) * logit_normal


def step_of(t: Tensor) -> Tensor:
    """Turn training times of the flow into uniform steps 0, ..., 999."""
    return (N_TIMES * uniform_of(t)).long().clamp_max(N_TIMES - 1)


def noise_loss(predict, x_1, noise, step, alpha_bar, weight=None) -> Tensor:
    """Squared error of the predicted noise, one number per row.

    Parameters
    ----------
    predict : callable
        ``predict(x_k, step)`` returns the noise in it, a Tensor like ``x_k``.
    x_1, noise : Tensor of shape (n, ...)
        Data rows and standard normal noise.
    step : Tensor of int of shape (n,)
        0 is almost data, ``len(alpha_bar) - 1`` noise.
    alpha_bar : Tensor
        Share of the variance that is still data's at each step.
    weight : Tensor broadcastable to (n, ...), optional
        Weight of each coordinate, mean 1, as in the flow's loss.

    Returns
    -------
    Tensor of shape (n,)
    """
    kept = like_rows(alpha_bar[step], x_1)
    x_k = (kept.sqrt() * x_1 + (1 - kept).sqrt() * noise).to(x_1.dtype)
    squared = (predict(x_k, step) - noise).square()
    if weight is not None:
        squared = squared * weight
    return squared.flatten(1).mean(dim=1)


def subsequence(n_steps: int, n_times: int = N_TIMES) -> list[int]:
    """Return ``n_steps`` of the times, from noise to data.

    Each lies in the middle of its share of all times: with few steps that was better
    than to begin or to end at an edge.
    """
    return [int((i + 0.5) * n_times / n_steps) for i in reversed(range(n_steps))]


def reverse(predict, noise, alpha_bar, n_steps, eta=0.0, generator=None, bounds=None):
    r"""Carry noise to data.

    Parameters
    ----------
    predict : callable
        ``predict(x_k, step)`` with ``step`` an int returns the noise in ``x_k``.
    noise : Tensor of shape (n, ...)
        Where to start.
    alpha_bar : Tensor
        The schedule of the training.
    n_steps : int
        Evaluations of ``predict``; at most ``len(alpha_bar)``.
    eta : float, default=0.0
        Factor of the noise that each step adds: 1 with all steps is DDPM's ancestral
        sampler, 0 is DDIM.
    generator : torch.Generator, default=None
        Draws that noise; needed unless ``eta`` is 0.
    bounds : pair of Tensors broadcastable to a row, default=None
        Smallest and largest value of each coordinate of the predicted row.

    Returns
    -------
    Tensor like ``noise``
    """
    steps = subsequence(n_steps, len(alpha_bar))
    kept = alpha_bar.double().tolist()
    x = noise
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        now, then = kept[step], 1.0 if following is None else kept[following]
        x_1 = (x - (1 - now) ** 0.5 * predict(x, step)) / now**0.5
        if bounds is not None:
            x_1 = x_1.clamp(*bounds)
        rest = (x - now**0.5 * x_1) / (1 - now) ** 0.5  # the noise, given that row
        fresh = eta**2 * (1 - then) / (1 - now) * (1 - now / then)  # a variance
        x = then**0.5 * x_1 + max(0.0, 1 - then - fresh) ** 0.5 * rest
        if fresh > 0:
            x = x + fresh**0.5 * sample_source(tuple(x.shape), generator).to(x)
    return x


def generator_of(source: Tensor) -> torch.Generator:
    """Return a private generator that is a function of the first row of ``source``.

    Blocks of samples and their source rows are functions of the seed and of the number
    of the sample. Hence so is the noise of the steps, and no two blocks share it.
    """
    some = source[0].flatten()[:2].float().cpu().numpy()
    seed = int.from_bytes(some.tobytes(), "little") >> 1
    return torch.Generator(source.device).manual_seed(seed)


# --------------------------------------------------------------------- the estimators
def parts_of(model: JointModel) -> dict:
    """Return what a joint model was made of, by the names of its parameters."""
    names = list(inspect.signature(JointModel.__init__).parameters)[1:]
    return {name: getattr(model, name) for name in names}


class DiffusionModel(JointModel):
    """A joint model whose field predicts noise.

    ``forward`` takes and returns what the parent's does, so the package's training
    loop trains it; ``decode`` takes ``"ancestral"`` or ``"ddim"`` for a solver.
    """

    @classmethod
    def of(cls, model: JointModel):
        """Return a diffusion model of the parts of an untrained joint model."""
        self = cls(**parts_of(model))
        self.register_buffer("alpha_bar", cosine_alpha_bar().float())
        self.register_buffer("low", None)
        self.register_buffer("high", None)
        return self

    @torch.no_grad()
    def fit_bounds(self, rows) -> None:
        """Learn the range of each feature, or of each channel's shape and summaries."""
        lows, highs = [], []
        for part in rows.chunks():
            coordinates = self.coordinates(self.standardise(rows[part]))
            lows.append(coordinates.amin(dim=0))
            highs.append(coordinates.amax(dim=0))
        low, high = torch.stack(lows).amin(dim=0), torch.stack(highs).amax(dim=0)
        if rows.is_windows:
            low[:, :-2] = low[:, :-2].amin(dim=1, keepdim=True)
            high[:, :-2] = high[:, :-2].amax(dim=1, keepdim=True)
        self.low, self.high = low, high

    def predict(self, x_k: Tensor, step: Tensor, z: Tensor) -> Tensor:
        """Return the noise in ``x_k``."""
        return self.velocity_field(x_k, 1 - (step + 1) / N_TIMES, z)

    def forward(self, x_1, x_0, t, features, view=None, other_view=None, z_noise=None):
        z = self.encode(features)
        given = z if z_noise is None else z + z_noise
        loss = noise_loss(
            lambda x_k, step: self.predict(x_k, step, given),
            self.coordinates(x_1),
            x_0,
            step_of(t),
            self.alpha_bar,
            self.coordinates.weight,
        )
        if view is None:
            return loss, None, None
        return loss, self.project(view), self.project(other_view)

    def decode(self, components, x_0, n_steps, solver, stop=1.0, gain=None):
        """Return one row for each representation, in the user's units.

        Parameters
        ----------
        components : Tensor of shape (n, n_components)
            As ``represent`` gives them.
        x_0 : Tensor of shape (n, ...)
            Noise, in flow coordinates.
        n_steps : int
            Evaluations of the network for each row.
        solver : {"ancestral", "ddim"}
            Whether the steps add noise.
        stop : ignored
            As the flow has it.
        gain : array of shape (n_channels, n_timesteps + 1), default=None
            As the flow has it.
        """
        z = self.axes.inverse(components)

        def predict(x, step):
            return self.predict(x, x.new_full((len(x),), float(step)), z)

        eta = ETA[solver]
        generator = generator_of(x_0) if eta else None
        bounds = self.low, self.high
        x_1 = reverse(predict, x_0, self.alpha_bar, n_steps, eta, generator, bounds)
        if gain is not None:
            x_1 = equalised(x_1, gain)
        return self.standardise.inverse(self.coordinates.inverse(x_1))


class DiffusionTransformer(FlowFMTransformer):
    """:class:`~skflowfm.FlowFMTransformer` with a diffusion generator.

    Parameters, attributes, ``fit`` and ``transform`` are the parent's. What the parent
    does with the velocity (``inverse_transform``, ``score_samples``, ``health_``'s loss
    by time) has no meaning here. For a comparison give ``validation_fraction=0``: early
    stopping can end a long budget while the learning rate is still high, and samples
    are then worse than after a short budget that is used up.
    """

    def _build(self, rows, seed):
        super()._build(rows, seed)
        model = DiffusionModel.of(self.module_.cpu())
        model.fit_bounds(rows)
        self.module_ = model


class DiffusionSampler(FlowFMSampler):
    """Draws from a diffusion generator, with the parent's density of representations.

    Parameters
    ----------
    transformer : DiffusionTransformer or FrozenEstimator of one
        As the parent has it.
    method : {"ancestral", "ddim"}, default="ancestral"
        With noise in each step, or without.
    n_steps : int, default=1000
        Evaluations of the network for each row, 1 to 1000. Like ``method`` it may be
        changed after ``fit``.
    random_state : int, RandomState, Generator or None, default=None
        As the parent has it.
    """

    # what the parent's constructor sets and its methods read
    quality, solver, sampling_strategy, bounds = 1, "euler", "auto", None

    def __init__(
        self, transformer, *, method="ancestral", n_steps=N_TIMES, random_state=None
    ):
        self.transformer = transformer
        self.method = method
        self.n_steps = n_steps
        self.random_state = random_state

    def mend(self, X, n_rows=256):
        """Find the gain of these steps, as the flow's sampler does in ``fit``."""
        steps = Steps(self.n_steps, self.method)
        model, seed = self.transformer_.module_, self.random_state
        self.spectral_gain_ = gain_of(model, Rows(X), steps, seed, n_rows)
        return self

    def _decode(self, z, seed, *shared, **which):
        if self.method not in ETA or not 1 <= self.n_steps <= N_TIMES:
            raise ValueError(
                f"expected a method of {list(ETA)} and 1 to {N_TIMES} steps, got "
                f"method={self.method!r}, n_steps={self.n_steps!r}"
            )
        X = decode(
            self.transformer_.module_,
            z,
            self.transformer_.row_shape_in_,
            seed,
            Steps(self.n_steps, self.method, 1.0, self.spectral_gain_),
            *shared,
            **which,
        ).numpy()
        return self._finished(X)
