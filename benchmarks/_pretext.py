r"""The counterpart of SSL-Wearables: an encoder that learns from three pretext tasks.

A window is turned round in time, its parts are shuffled, its time is warped, each with
probability 1/2 and independently; a network sees the result and says which of the three
happened. The loss is the sum of three cross-entropies [1]_. Still windows tell nothing
of the kind, so windows are drawn in proportion to their standard deviation; and
channels change places and turn at random, so that the tasks cannot be solved by how the
sensor was worn. Everything is written from the paper's description.

What differs from the paper, for a comparison at equal cost: the encoder is a
residual :class:`~skflowfm.nets.ConvEncoder` about as large as what
:class:`~skflowfm.FlowFMTransformer` trains for recognition (185,152 weights against
164,416, for windows of three channels), and the unlabelled windows are those that every
other method gets.

References
----------
.. [1] H. Yuan et al., "Self-supervised learning for human activity recognition using
       700,000 person-days of wearable data", npj Digital Medicine 7, 2024
       (arXiv:2206.02909).
"""

import copy
import math
from itertools import permutations

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from skflowfm._budget import Budget, Plan
from skflowfm._building import on_meta
from skflowfm._checks import check_length, seed_of
from skflowfm._device import place, resolve_device
from skflowfm._draws import hold_out, private_generator
from skflowfm._training import train
from skflowfm._validation import check_rows
from skflowfm.flow_matching import sample_source
from skflowfm.nets import ConvEncoder

WIDTHS = (24, 48, 96)  # 185,152 weights with the hidden layer, for three channels
N_HIDDEN = 64
BATCH_SIZE = 64
BLOCK = 512
TASKS = ("arrow of time", "permutation", "time warp")
N_CHUNKS, MIN_CHUNK = 4, 10
N_KNOTS, WARP = 6, 0.4
N_DRAWS = 20  # windows drawn by movement, for each window, before they repeat


# --------------------------------------------------------------------- the tasks
def flip(x: Tensor) -> Tensor:
    """Return windows (n, C, T) with time running backwards."""
    return x.flip(-1)


def chunk_lengths(n: int, n_timesteps: int, generator) -> Tensor:
    """Draw how windows are cut, (n, 4): at least ten steps each where there are forty.

    Shorter windows have chunks of at least an eighth.
    """
    least = max(1, min(MIN_CHUNK, n_timesteps // (2 * N_CHUNKS)))
    slack = n_timesteps - N_CHUNKS * least
    cut = torch.rand((n, N_CHUNKS - 1), generator=generator, device=generator.device)
    cut = (cut * (slack + 1)).long().clamp_max(slack).sort(dim=1).values
    edges = F.pad(F.pad(cut, (1, 0)), (0, 1), value=slack)
    return edges.diff(dim=1) + least


def permute(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return windows cut into four chunks of random lengths, in another order.

    Any of the 23 other orders is as likely.
    """
    n, _, n_timesteps = x.shape
    lengths = chunk_lengths(n, n_timesteps, generator)
    at = torch.arange(n_timesteps, device=x.device)
    chunk = (at[None, :, None] >= lengths.cumsum(1)[:, None, :-1]).sum(dim=2)
    orders = torch.tensor(list(permutations(range(N_CHUNKS)))[1:], device=x.device)
    which = torch.randint(len(orders), (n,), generator=generator, device=x.device)
    place_of_step = orders[which].gather(1, chunk) * n_timesteps + at
    index = place_of_step.argsort(dim=1)
    return x.gather(2, index[:, None].expand_as(x))


def warped_times(n: int, n_timesteps: int, generator: torch.Generator) -> Tensor:
    """Draw increasing maps of 0, ..., T - 1 onto itself, (n, T).

    The logarithm of the speed is piecewise linear between normal numbers at six knots.
    """
    knots = WARP * sample_source((n, 1, N_KNOTS), generator)
    speed = F.interpolate(
        knots, size=n_timesteps - 1, mode="linear", align_corners=True
    )[:, 0].exp()
    time = F.pad(speed.cumsum(dim=1), (1, 0))
    return time / time[:, -1:] * (n_timesteps - 1)


def interpolate(x: Tensor, time: Tensor) -> Tensor:
    """Return windows (n, C, T) read at other times (n, T), linearly."""
    low = time.floor().long().clamp(0, x.shape[-1] - 2)
    share = (time - low).clamp(0, 1)[:, None]
    low = low[:, None].expand_as(x)
    return torch.lerp(x.gather(2, low), x.gather(2, low + 1), share)


def time_warp(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return windows that run slower here and faster there; both ends stay."""
    return interpolate(x, warped_times(len(x), x.shape[-1], generator))


def transformed(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Apply each transformation to half of the windows.

    Returns
    -------
    x : Tensor of shape (n, C, T)
    labels : Tensor of shape (n, 3)
        1 where the window was turned round, cut and shuffled, warped.
    """
    coin = torch.rand((len(x), len(TASKS)), generator=generator, device=x.device)
    labels = (coin < 0.5).float()
    turned, shuffled, warped = labels[:, :, None, None].bool().unbind(1)
    x = torch.where(turned, flip(x), x)
    x = torch.where(shuffled, permute(x, generator), x)
    return torch.where(warped, time_warp(x, generator), x), labels


def turn_sensor(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return windows as a sensor would see them that is worn another way.

    Each three channels in turn are the axes of one sensor; they change places and are
    rotated, about a random axis by a random angle. Channels that are left over stay.
    """
    n, device = len(x), x.device
    out = []
    for first in range(0, x.shape[1] - 2, 3):
        order = torch.rand((n, 3), generator=generator, device=device).argsort(dim=1)
        swapped = x[:, first : first + 3].gather(
            1, order[:, :, None].expand_as(x[:, :3])
        )
        axis = F.normalize(sample_source((n, 3), generator), dim=1)
        angle = 2 * math.pi * torch.rand((n, 1), generator=generator, device=device)
        out.append(rotation(axis, angle) @ swapped)
    return torch.cat([*out, x[:, 3 * len(out) :]], dim=1)


def rotation(axis: Tensor, angle: Tensor) -> Tensor:
    """Return rotation matrices (n, 3, 3) about unit axes (n, 3) by angles (n, 1)."""
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1)
    return torch.linalg.matrix_exp(angle[..., None] * cross.reshape(-1, 3, 3))


def by_movement(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` positions of windows, in proportion to their standard deviation."""
    weight = x.var(dim=2, correction=0).sum(dim=1).sqrt().double()
    weight = weight + 1e-6 * weight.max() + 1e-30
    return torch.multinomial(weight, n, replacement=True, generator=generator)


# ------------------------------------------------------------------ net and training
class PretextNet(nn.Module):
    """Scaling, encoder, and one hidden layer under three heads.

    **Shape.** Windows (n, C, T) in the user's units and labels (n, 3) to losses (n,).

    Parameters
    ----------
    n_channels, widths
        See :class:`~skflowfm.nets.ConvEncoder`; its last layer is the hidden one.
    """

    def __init__(self, n_channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.register_buffer("scale", torch.ones(n_channels, 1))
        self.encoder = ConvEncoder(n_channels, N_HIDDEN, widths)
        hidden, self.encoder.project = self.encoder.project, nn.Identity()
        self.head = nn.Sequential(hidden, nn.GELU(), nn.Linear(N_HIDDEN, len(TASKS)))

    def fit_scale(self, rows) -> None:
        """One factor for each three channels, so that turning a sensor makes sense."""
        mean, deviation, _ = rows.moments()
        power = mean.square() + deviation.square()
        for first in range(0, len(power) - 2, 3):
            power[first : first + 3] = power[first : first + 3].mean()
        self.scale.copy_(power.sqrt().clamp_min(1e-12))

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled stages of the encoder, for windows in the user's units."""
        return self.encoder(x / self.scale)

    def logits(self, x: Tensor) -> Tensor:
        """Return what the head says about them."""
        return self.head(self.features(x))

    def forward(self, x, t):
        """Return the summed cross-entropies of each window, as the loop wants it."""
        loss = F.binary_cross_entropy_with_logits(self.logits(x), t, reduction="none")
        return loss.sum(dim=1), None, None


def draws(rows, answer, device):
    """Return what the training loop draws its batches with.

    Parameters
    ----------
    rows : Rows
        Windows.
    answer : callable
        ``answer(x, index, generator)`` returns the windows to show, and the answer.
    device : str
        Where the draws are made.
    """

    def draw(index, generator):
        shown, t = answer(rows[index].to(device), index, generator)
        return {"x": shown, "t": t}

    return draw


def default_steps(n_rows: int) -> int:
    """Return as many steps as FlowFMTransformer takes by default."""
    return int(np.clip(60 * n_rows // BATCH_SIZE, 400, 1000))


def in_parts(function, rows, device) -> Tensor:
    """Apply a net to all rows, some at a time."""
    with torch.inference_mode():
        starts = range(0, len(rows), BLOCK)
        return torch.cat(
            [function(rows[slice(i, i + BLOCK)].to(device)).cpu() for i in starts]
        )


class PretextTransformer(TransformerMixin, BaseEstimator):
    """Self-supervised representation of windows, by three pretext tasks.

    Parameters
    ----------
    n_components : int, default=None
        Leading principal components of the standardised features. None returns all of
        these features, the pooled stages of the encoder: 513 for three channels. With
        a logistic regression that was clearly better than the last hidden layer.
    rotation : bool, default=True
        Whether the sensor is turned at random in training.
    widths : tuple of int, default=(24, 48, 96)
        Channels of the encoder's stages.
    learning_rate : float, default=2e-3
        Highest rate of AdamW.
    max_steps : int, default=None
        Steps of 64 windows. None takes what FlowFMTransformer takes, unless
        ``max_time`` is given; 0 leaves the encoder at its random start.
    max_time : float, default=None
        Most seconds of training.
    validation_fraction : float, default=0.1
        Share of the windows, or of whole groups, that early stopping watches.
    device : str, default="auto"
        As FlowFMTransformer has it.
    random_state : int, RandomState, Generator or None, default=None
        Seeds everything.

    Attributes
    ----------
    net_ : PretextNet
        The trained net.
    history_ : DataFrame
        A row per 50 steps; ``train_flow`` and ``valid_flow`` are the pretext loss,
        3 log 2 = 2.08 for a guess.
    n_steps_, fit_seconds_, stopped_by_ : int, float, str
        What training took.
    """

    def __init__(
        self,
        n_components=None,
        *,
        rotation=True,
        widths=WIDTHS,
        learning_rate=2e-3,
        max_steps=None,
        max_time=None,
        validation_fraction=0.1,
        device="auto",
        random_state=None,
    ):
        self.n_components = n_components
        self.rotation = rotation
        self.widths = widths
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.max_time = max_time
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state

    def fit(self, X, y=None, *, groups=None):
        """Train on the windows of ``X``, without labels.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_channels, n_timesteps)
            Windows.
        y : ignored
            Present for the interface.
        groups : array-like of shape (n_windows,), default=None
            Whole groups are held out for early stopping.

        Returns
        -------
        self : PretextTransformer
        """
        rows = check_rows(self, X, reset=True, min_rows=2)
        steps = self.max_steps
        if steps is None and self.max_time is None:
            steps = default_steps(len(rows))
        budget = Budget(steps, self.max_time, BATCH_SIZE, self.learning_rate)
        seed = seed_of(self.random_state)
        generator = private_generator(seed)
        self.device_ = resolve_device(self.device)
        net = on_meta(PretextNet, generator, rows.row_shape[0], self.widths)
        net.scale.fill_(1.0)
        net.fit_scale(rows)
        self.net_ = place(net, self.device_)
        if budget.max_steps != 0:
            self._train(rows, groups, budget, seed, generator)
        self.n_steps_ = budget.n_steps
        h = in_parts(self.net_.features, rows, self.device_)
        self.readout_ = make_pipeline(StandardScaler(), self._axes()).fit(h.numpy())
        self.fit_seconds_ = budget.seconds
        return self

    def _train(self, rows, groups, budget, seed, generator):
        index, held_out = hold_out(
            len(rows), self.validation_fraction, groups, generator
        )
        moved = index[by_movement(rows[index], N_DRAWS * len(index), generator)]
        if len(held_out):
            held_out = held_out[by_movement(rows[held_out], len(held_out), generator)]

        def answer(x, index, generator):
            if self.rotation:
                x = turn_sensor(x, generator)
            return transformed(x, generator)

        draw = draws(rows, answer, self.device_)
        plan = Plan(budget, seed, self.device_)
        training = train(self.net_, draw, moved, held_out, plan)
        self.history_, self.stopped_by_ = training.history, training.stopped_by

    def _axes(self):
        if self.n_components is None:
            return "passthrough"
        return PCA(self.n_components, svd_solver="full")

    def transform(self, X):
        """Return the representation of each window, float32."""
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False)
        h = in_parts(self.net_.features, rows, self.device_)
        return self.readout_.transform(h.numpy())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class PretextClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tunes all layers of a pretrained encoder, under a new linear head.

    The cross-entropy weights classes by the inverse of their frequency; the best round
    on held-out groups is kept.

    Parameters
    ----------
    transformer : PretextTransformer
        Fitted; its net is copied. With ``max_steps=0`` it is a net from scratch.
    rotation : bool, default=False
        Whether the sensor is turned at random here too, as the paper has it. Where the
        sensor is always worn alike, that hides the posture.
    learning_rate : float, default=1e-3
        Highest rate of AdamW.
    max_steps : int, default=None
        Steps of 64 windows. None takes what FlowFMTransformer takes.
    validation_fraction : float, default=0.125
        Share of the windows, or of whole groups, that early stopping watches; with
        fewer than 32 of them it is off.
    random_state : int, RandomState, Generator or None, default=None
        Seeds everything.
    """

    def __init__(
        self,
        transformer,
        *,
        rotation=False,
        learning_rate=1e-3,
        max_steps=None,
        validation_fraction=0.125,
        random_state=None,
    ):
        self.transformer = transformer
        self.rotation = rotation
        self.learning_rate = learning_rate
        self.max_steps = max_steps
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X, y, *, groups=None):
        """Fine-tune on labelled windows.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_channels, n_timesteps)
            Windows like those of the transformer.
        y : array-like of shape (n_windows,)
            Labels.
        groups : array-like of shape (n_windows,), default=None
            Whole groups are held out for early stopping.

        Returns
        -------
        self : PretextClassifier
        """
        rows = check_rows(self, X, reset=True, min_rows=2)
        y = check_length("y", y, len(rows))
        self.classes_, codes = np.unique(y, return_inverse=True)
        codes = torch.from_numpy(codes)
        seed = seed_of(self.random_state)
        generator = private_generator(seed)
        net = FineTuned(self.transformer.net_, codes, generator)
        device = self.transformer.device_
        self.net_ = place(net, device)
        index, held_out = hold_out(
            len(rows), self.validation_fraction, groups, generator
        )

        def answer(x, index, generator):
            if self.rotation:
                x = turn_sensor(x, generator)
            return x, codes[index].to(device)

        steps = self.max_steps or default_steps(len(rows))
        budget = Budget(steps, None, BATCH_SIZE, self.learning_rate)
        draw = draws(rows, answer, device)
        training = train(self.net_, draw, index, held_out, Plan(budget, seed, device))
        self.history_, self.stopped_by_ = training.history, training.stopped_by
        self.n_steps_, self.fit_seconds_ = budget.n_steps, budget.seconds
        return self

    def predict_proba(self, X):
        """Return the probability of each class, (n_windows, n_classes)."""
        check_is_fitted(self)
        rows = check_rows(self, X, reset=False)
        logits = in_parts(self.net_.logits, rows, self.transformer.device_)
        return logits.softmax(dim=1).numpy()

    def predict(self, X):
        """Return the likeliest class of each window."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class FineTuned(nn.Module):
    """A copy of a pretrained net with a head of its own.

    Parameters
    ----------
    net : PretextNet
        Pretrained.
    codes : Tensor of int
        Training labels: how many classes, and their weights.
    generator : torch.Generator
        Draws the head.
    """

    def __init__(self, net, codes, generator):
        super().__init__()
        self.net = copy.deepcopy(net).cpu()
        counts = codes.bincount()
        last = net.head[-1].in_features
        self.net.head[-1] = on_meta(nn.Linear, generator, last, len(counts))
        self.register_buffer("weight", len(codes) / (len(counts) * counts))

    def logits(self, x: Tensor) -> Tensor:
        """Return a number per class for windows in the user's units."""
        return self.net.logits(x)

    def forward(self, x, t):
        """Return the weighted cross-entropy of each window."""
        loss = F.cross_entropy(self.logits(x), t, self.weight, reduction="none")
        return loss, None, None
