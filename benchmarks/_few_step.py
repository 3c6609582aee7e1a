r"""Few-step terms: what a field gains that also learns long jumps.

Beside the time, the velocity field is told the length d of the jump that it is asked
for and answers with the average velocity over it, so that a jump is one evaluation,
:math:`x_{t + d} = x_t + d\, s(x_t, t, d, z)`; d = 0 is the velocity itself. In a
quarter of the rows of a batch, the field learns jumps; these do not teach the encoder.

* **Shortcut** [1]_: a jump is what two jumps of half the length make of it,
  :math:`2 s(x_t, t, 2 d) = s(x_t, t, d) + s(x_{t + d}, t + d, d)`.
* **MeanFlow** [2]_: with u the average velocity up to a fixed time, differentiating
  :math:`(t' - t)\, u` in t along the path gives
  :math:`u = v + (t' - t)\, \mathrm d u / \mathrm d t`; the derivative is a finite
  difference here.

Everything else is that of :class:`~skflowfm.FlowFMTransformer`.

References
----------
.. [1] K. Frans, D. Hafner, S. Levine and P. Abbeel, "One Step Diffusion via Shortcut
       Models", ICLR 2025.
.. [2] Z. Geng, M. Deng, X. Bai, J. Z. Kolter and K. He, "Mean Flows for One-step
       Generative Modeling", NeurIPS 2025.
"""

import math

import torch
from _diffusion import parts_of, uniform_of
from torch import Tensor, nn

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm._building import on_meta
from skflowfm._draws import private_generator
from skflowfm._generation import Steps, decode
from skflowfm._steps import gain_of
from skflowfm._validation import Rows
from skflowfm.flow_matching import flow_matching_loss, like_rows, straight_path
from skflowfm.nets import JointModel, WindowVelocityField
from skflowfm.nets.coordinates import equalised

SHARE = 4  # of so many rows, one learns a jump
N_WAVES = 8
N_LEVELS = 4  # jumps of 1, 1/2, 1/4 and 1/8
DIFFERENCE = 1 / 32


def two_uniforms(t: Tensor) -> tuple[Tensor, Tensor]:
    """Turn training times into two independent uniform numbers each."""
    thousand = 1000 * uniform_of(t).double()
    first = thousand.floor().clamp_max(999)
    return (first / 1000).to(t.dtype), (thousand - first).clamp(0, 1).to(t.dtype)


class JumpField(nn.Module):
    """A velocity field that is told how far to jump.

    **Shape.** x_t (n, ...), t and jump (n,), z (n, n_components); output like x_t.
    """

    def __init__(self, *sizes):
        super().__init__()
        *row_shape, n_components = sizes
        n = n_components + N_WAVES
        self.field = WindowVelocityField(*row_shape, n, n_seen=n)

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor, jump=None) -> Tensor:
        jump = torch.zeros_like(t) if jump is None else jump
        waves = math.pi * jump[:, None] * torch.arange(N_WAVES, device=t.device)
        return self.field(x_t, t, torch.cat([z, waves.cos()], dim=1))


class JumpModel(JointModel):
    """A joint model whose field also learns jumps; a subclass says how."""

    @classmethod
    def of(cls, model: JointModel, field: JumpField):
        """Return one of the parts of an untrained joint model, but for the field."""
        return cls(**parts_of(model) | {"velocity_field": field})

    def forward(self, x_1, x_0, t, features, view=None, other_view=None, z_noise=None):
        z = self.encode(features)
        given = z if z_noise is None else z + z_noise
        x_1, weight = self.coordinates(x_1), self.coordinates.weight
        n = len(t) // SHARE
        flow = flow_matching_loss(
            self.velocity_field, x_1[n:], x_0[n:], t[n:], given[n:], weight
        )
        error = self.jump_error(x_1[:n], x_0[:n], t[:n], given[:n].detach())
        jumps = (error.square() * weight).flatten(1).mean(dim=1)
        loss = torch.cat([self.tempered(jumps), flow])
        if view is None:
            return loss, None, None
        return loss, self.project(view), self.project(other_view)

    def tempered(self, loss: Tensor) -> Tensor:
        """Return the loss of the rows that jump, as it counts."""
        return loss

    def decode(self, components, x_0, n_steps, solver="jumps", stop=1.0, gain=None):
        """Return one row for each representation, ``n_steps`` equal jumps from noise.

        Parameters
        ----------
        components : Tensor of shape (n, n_components)
            As ``represent`` gives them.
        x_0 : Tensor of shape (n, ...)
            Noise, in flow coordinates.
        n_steps : int
            Evaluations of the network for each row.
        solver, stop : ignored
            As the flow has them.
        gain : array of shape (n_channels, n_timesteps + 1), default=None
            As the flow has it.
        """
        z, x = self.axes.inverse(components), x_0
        jump = x.new_full((len(x),), 1 / n_steps)
        for k in range(n_steps):
            x = x + self.velocity_field(x, k * jump, z, jump) / n_steps
        if gain is not None:
            x = equalised(x, gain)
        return self.standardise.inverse(self.coordinates.inverse(x))


class ShortcutModel(JumpModel):
    """Jumps of 1/8, 1/4, 1/2 and 1, each against two of half its length.

    Halves of 1/8 are short enough for the velocity.
    """

    def jump_error(self, x_1, x_0, t, z):
        """Return how far the field's jump is from two jumps of half its length."""
        which, when = two_uniforms(t)
        level = (which * N_LEVELS).long()  # a jump of 1 / 2^level
        n_places = 2.0**level
        half = 0.5 / n_places
        t = (when * n_places).floor().clamp_max(n_places - 1) / n_places
        x_t = straight_path(x_0, x_1, t)
        with torch.no_grad():
            given = torch.where(level == N_LEVELS - 1, 0.0, half)  # the velocity
            first = self.velocity_field(x_t, t, z, given)
            there = x_t + like_rows(half, x_t) * first
            both = (first + self.velocity_field(there, t + half, z, given)) / 2
        return self.velocity_field(x_t, t, z, 2 * half) - both


class MeanFlowModel(JumpModel):
    """Jumps from any time to any later one, against MeanFlow's identity."""

    def jump_error(self, x_1, x_0, t, z):
        """Return how far the field's jump is from what the identity says of it."""
        low, high = (f(*two_uniforms(t)) for f in (torch.minimum, torch.maximum))
        jump = high - low
        step = jump.clamp_max(DIFFERENCE)
        v = x_1 - x_0
        now = self.velocity_field(straight_path(x_0, x_1, low), low, z, jump)
        with torch.no_grad():
            later = straight_path(x_0, x_1, low + step)
            then = self.velocity_field(later, low + step, z, jump - step)
            rate = like_rows(jump / step.clamp_min(1e-6), v)
            target = v + rate * (then - now)
        return now - target

    def tempered(self, loss):
        """Large errors count less, as in the paper, or their targets' noise rules."""
        return loss / (loss.detach() + 1)


# --------------------------------------------------------------------- the estimators
class JumpTransformer(FlowFMTransformer):
    """:class:`~skflowfm.FlowFMTransformer` of windows whose field learns jumps.

    What the parent does with the velocity (``inverse_transform``, ``score_samples``)
    has no meaning here.
    """

    def _build(self, rows, seed):
        super()._build(rows, seed)
        sizes = *rows.row_shape, self.module_.n_components
        field = on_meta(JumpField, private_generator(seed), *sizes)
        self.module_ = self.kind.of(self.module_.cpu(), field)


class ShortcutTransformer(JumpTransformer):
    """Learns jumps as shortcut models do."""

    kind = ShortcutModel


class MeanFlowTransformer(JumpTransformer):
    """Learns jumps as MeanFlow does."""

    kind = MeanFlowModel


class JumpSampler(FlowFMSampler):
    """Draws with ``quality`` jumps, and with the parent's density of representations.

    Parameters
    ----------
    transformer : JumpTransformer or FrozenEstimator of one
        As the parent has it.
    quality : int, default=8
        Evaluations of the network for each row.
    random_state : int, RandomState, Generator or None, default=None
        As the parent has it.
    """

    # what the parent's constructor sets and its methods read
    solver, sampling_strategy, bounds = "euler", "auto", None

    def __init__(self, transformer, *, quality=8, random_state=None):
        self.transformer = transformer
        self.quality = quality
        self.random_state = random_state

    def mend(self, X):
        """Find the gain of these jumps, as the parent does in ``fit``."""
        steps = Steps(self.quality, "jumps")
        model, seed = self.transformer_.module_, self.random_state
        self.spectral_gain_ = gain_of(model, Rows(X), steps, seed)
        return self

    def _decode(self, z, seed, *shared, **which):
        model, shape = self.transformer_.module_, self.transformer_.row_shape_in_
        steps = Steps(self.quality, "jumps", 1.0, self.spectral_gain_)
        return self._finished(
            decode(model, z, shape, seed, steps, *shared, **which).numpy()
        )
