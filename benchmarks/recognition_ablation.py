"""What each ingredient of the default encoder buys: variants for `recognition.py`.

    python benchmarks/recognition.py --ablation --data a.npz b.npz --seeds 0 1 2

Each variant is the default with one thing changed, by a public parameter or by a named
constant of the package. A variant is a method like any other there.
"""

from contextlib import ExitStack
from functools import partial
from unittest.mock import patch

import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch.nn import functional as F

from skflowfm._positives import nearest_rows
from skflowfm.nets import ConvEncoder, FeatureEncoder, WindowVelocityField
from skflowfm.nets.encoder import pool_time
from skflowfm.nets.layers import ZeroLinear
from skflowfm.nets.stem import StatisticsBlock
from skflowfm.nets.velocity_field import PatchBlock


class Changed(TransformerMixin, BaseEstimator):
    """A transformer that is fitted while some constants have other values."""

    def __init__(self, transformer, constants):
        self.transformer = transformer
        self.constants = constants

    def fit_transform(self, X, y=None):
        with ExitStack() as changes:
            for name, value in self.constants.items():
                changes.enter_context(patch(f"skflowfm.{name}", value))
            self.transformer.fit(X)
            return self.transform(X)

    def transform(self, X):
        return self.transformer.transform(X)

    @property
    def n_steps_(self):
        return self.transformer.n_steps_


def vicreg(z_a, z_b):
    """Variance-invariance-covariance regularisation (Bardes et al., ICLR 2022)."""
    n, d = z_a.shape
    loss = 25 * F.mse_loss(z_a, z_b)
    for z in (z_a, z_b):
        z = z - z.mean(dim=0)
        deviation = (z.square().sum(dim=0) / max(n - 1, 1) + 1e-4).sqrt()
        loss = loss + 25 * F.relu(1 - deviation).mean()
        covariance = z.T @ z / max(n - 1, 1)
        off_diagonal = covariance - torch.diag(covariance.diagonal())
        loss = loss + off_diagonal.square().sum() / d
    return loss / 25


def sigreg(z_a, z_b, n_slices=64, weight=0.05):
    """Agreement, and projections that look normal (Balestriero, LeCun, "LeJEPA", 2025).

    Normal by the test of Epps and Pulley: the characteristic function of each
    projection beside the one of N(0, 1).
    """
    rng = torch.Generator().manual_seed(0)
    slices = torch.randn(z_a.shape[1], n_slices, generator=rng).to(z_a.device)
    t = torch.linspace(-5, 5, 17, device=z_a.device)
    normal = (-t.square() / 2).exp()
    misfit = 0.0
    for z in (z_a, z_b):
        angle = (z @ F.normalize(slices, dim=0))[..., None] * t  # (n, n_slices, 17)
        real, imaginary = angle.cos().mean(dim=0), angle.sin().mean(dim=0)
        distance = ((real - normal).square() + imaginary.square()) * normal
        misfit = misfit + len(z) * torch.trapezoid(distance, t).mean() / 2
    return (1 - weight) * F.mse_loss(z_a, z_b) + weight * misfit


def dispersive(z_a, z_b, temperature=0.5):
    """Rows apart from each other, no pairs (Wang, He, "Diffuse and Disperse", 2025)."""
    loss = 0.0
    for z in (z_a, z_b):
        distance = torch.pdist(z).square() / z.shape[1]
        loss = loss + torch.logsumexp(-distance / temperature, dim=0) / 2
    return loss


class Residual(FeatureEncoder):
    """All of z starts as the components; training adds a residual that starts at 0."""

    def __init__(self, n_features, n_components, width=512, **kwargs):
        super().__init__(n_features, n_components, width, **kwargs)
        self.n_fixed, self.n_learned = 0, n_components
        self.net[-1] = ZeroLinear(width, n_components)

    def forward(self, features):
        start = features[:, : self.n_learned]
        missing = self.n_learned - start.shape[1]
        return F.pad(start, (0, missing)) + super().forward(features)


class LastStage(ConvEncoder):
    """Reads the pooled last stage alone, not every stage and not the window itself."""

    def __init__(self, n_channels, n_components):
        super().__init__(n_channels, n_components)
        n_last = 3 * self.stages[-1][0].out_channels
        self.norm = torch.nn.LayerNorm(n_last)
        self.project = torch.nn.Linear(n_last, n_components)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.project(self.norm(pool_time(x)))


class WithStatistics(ConvEncoder):
    """Its pooled stages and the hand-made block of the stem, side by side."""

    def __init__(self, n_channels, n_components, n_timesteps):
        super().__init__(n_channels, n_components)
        self.statistics = StatisticsBlock(n_channels, n_timesteps)
        n_features = self.statistics.n_features
        self.weigh = torch.nn.Sequential(
            torch.nn.LayerNorm(n_features), torch.nn.Linear(n_features, n_components)
        )

    def forward(self, x):
        return super().forward(x) + self.weigh(self.statistics(x))


class Unconditioned(PatchBlock):
    """A block that knows neither time nor z."""

    def forward(self, h, condition):
        return super().forward(h, torch.zeros_like(condition))


class FirstBlockKnows(WindowVelocityField):
    """Time and z reach the first block and the summary, not every block."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        width = self.norm.normalized_shape[0]
        for k in range(1, len(self.blocks)):
            self.blocks[k] = Unconditioned(width, 2**k)


def uniform_time(n, generator):
    """Training times without the emphasis on the middle of the path."""
    return torch.rand(n, generator=generator, device=generator.device)


def themselves(features, n_candidates):
    """Each row in place of its near ones."""
    return torch.arange(len(features), device=features.device)[:, None]


def themselves_or_near(features, n_candidates):
    """Each row as often as a near one."""
    near = nearest_rows(features, n_candidates)
    itself = themselves(features, n_candidates).expand_as(near)
    return torch.cat([itself, near], dim=1)


def blocks(*names):
    """Only some of the stem's blocks."""
    from skflowfm import nets
    from skflowfm.nets import kernels, stem

    of_name = {
        "kernels": kernels.KernelBlock,
        "competition": kernels.CompetitionBlock,
        "statistics": stem.StatisticsBlock,
    }
    assert nets.Stem.BLOCKS == tuple(of_name.values())
    return {"nets.stem.Stem.BLOCKS": tuple(of_name[name] for name in names)}


def window_view_parts():
    """The default view with one of its parts taken out."""
    from skflowfm.nets import views

    def fixed(low, high):
        def uniform(shape, a, b, generator):
            draw = original(shape, a, b, generator)
            return torch.full_like(draw, high) if (a, b) == (low, high) else draw

        original = views._uniform
        return uniform

    def source_scaled(factor):
        def sample(shape, generator):
            return factor * original(shape, generator)

        original = views.sample_source
        return sample

    def nothing_masked(shape, a, b, generator):
        draw = original(shape, a, b, generator)
        return torch.zeros_like(draw) if (a, b) == (0.0, 0.2) else draw

    original = views._uniform
    return {
        "view: no time warp": {"nets.views._uniform": fixed(0.9, 1.0)},
        "view: no mixing, shift, noise": {"nets.views.sample_source": source_scaled(0)},
        "view: no mask": {"nets.views._uniform": nothing_masked},
    }


def variants():
    """Name to (parameters, constants)."""
    changed = {
        "default": ({}, {}),
        "flow loss only": ({"alignment": 0.0}, {}),
        "alignment only": ({"alignment": 1e4}, {}),
        "alignment: VICReg": ({}, {"_training.info_nce": vicreg}),
        "alignment: SIGReg": ({}, {"_training.info_nce": sigreg}),
        "alignment: dispersive": ({}, {"_training.info_nce": dispersive}),
        "paper's loss": ({"views": None, "alignment": 0.0}, {}),
        "near rows: never": ({}, {"_positives.nearest_rows": themselves}),
        "near rows: half": ({}, {"_positives.nearest_rows": themselves_or_near}),
        "near rows, no views": ({"views": None}, {}),
    }
    for name, constants in window_view_parts().items():
        changed[name] = ({}, constants)
    for names in (
        ("kernels",),
        ("competition",),
        ("statistics",),
        ("kernels", "competition"),
        ("kernels", "statistics"),
        ("competition", "statistics"),
    ):
        changed["stem: " + " + ".join(names)] = ({}, blocks(*names))
    for share, said in ((2, "half"), (1, "all")):
        constants = {"nets.encoder.LEARNED_SHARE": share}
        changed[f"learned: {said} of z"] = ({}, constants)
    changed["start: components + residual"] = (
        {},
        {"_building.FeatureEncoder": Residual},
    )
    changed["conditioning: first block only"] = (
        {},
        {"_building.WindowVelocityField": FirstBlockKnows},
    )
    for n_blocks in (1, 8):
        deep = partial(WindowVelocityField, n_blocks=n_blocks)
        constants = {"_building.WindowVelocityField": deep}
        changed[f"blocks of the velocity field: {n_blocks}"] = ({}, constants)
    changed["times: uniform"] = ({}, {"_draws.sample_time": uniform_time})
    for size in (16, 32, 64, 128, 512):
        changed[f"components: {size}"] = ({"n_components": size}, {})
    for seconds in (15, 60, 180, 600):
        changed[f"budget: {seconds} s"] = ({"max_steps": None, "max_time": seconds}, {})
    return changed


def ablation(default):
    """Methods for `recognition.py`: `default` is the method that is varied."""

    def method(parameters, constants):
        def build(X_train, options):
            transformer, classifier = default(X_train, options)
            return Changed(transformer.set_params(**parameters), constants), classifier

        return build

    return {name: method(*change) for name, change in variants().items()}
