"""From the paper's loss to this package, one ingredient at a time, for `paper.py`.

Both halves are judged: a linear probe on people that training did not see, and windows
drawn with eight evaluations. All variants take as many steps on the same windows,
without early stopping.
"""

import time
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch
from _few_step import JumpSampler, ShortcutTransformer
from generation import split_subjects
from paper_generation import probe, quality, smaller
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn import functional as F

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm._budget import BATCH_SIZE, Budget, Plan
from skflowfm._building import on_meta
from skflowfm._draws import JointDraws, LiveViews, private_generator
from skflowfm._generation import decode
from skflowfm._steps import STOP, gain_against, mean_log_spectrum, steps_of
from skflowfm._training import train, without_views
from skflowfm._transformer import FIELD_RATE
from skflowfm._validation import Rows
from skflowfm.flow_matching import flow_matching_loss
from skflowfm.nets import ConvEncoder, JointModel, WindowVelocityField
from skflowfm.nets.joint import Projector

PROTOCOL = "ablation of the method"
STEPS = 800
EVALUATIONS = 8
N_LEARNED = 64
LABELS = "label in place of the representation"


# --------------------------------------------------------------------- the variants
class SeenThroughViews(LiveViews):
    """Features of a view of each row in place of its own."""

    def __call__(self, index, x_1, generator):
        return (self.stem(self.view(x_1, generator)),)


class AlignmentAlone(nn.Module):
    """A joint model without its flow loss."""

    def __init__(self, model):
        super().__init__()
        self.encoder, self.projector = model.encoder, model.projector
        self.project = model.project

    def forward(self, view, other_view, t, **draws):
        return torch.zeros_like(t), self.project(view), self.project(other_view)


def train_in_turn(model, draw, index, held_out, plan):
    """Train the encoder by the alignment alone, then the field on a z that stays.

    Each takes as many steps as both do together elsewhere.
    """
    of_encoder = Budget(plan.budget.max_steps, None, plan.budget.batch_size)
    alone = AlignmentAlone(model)
    train(alone, draw, index, held_out, plan._replace(budget=of_encoder))
    model.encoder.requires_grad_(False)
    plain = without_views(draw)
    return train(model, plain, index, held_out, plan._replace(alignment=0.0))


def variants(n_channels):
    """Name to (transformer, parameters, constants of the package)."""
    learned = {"encoder": ConvEncoder(n_channels, N_LEARNED)}
    flow_alone = learned | {"alignment": 0.0}
    return {
        "paper's loss alone, learned encoder": (
            FlowFMTransformer,
            flow_alone | {"views": None},
            {},
        ),
        "+ views": (
            FlowFMTransformer,
            flow_alone,
            {"_draws.LiveViews": SeenThroughViews},
        ),
        "+ alignment": (FlowFMTransformer, learned, {}),
        "+ fixed stem: the default": (FlowFMTransformer, {}, {}),
        "+ few-step term": (ShortcutTransformer, {}, {}),
        "default, encoder first": (
            FlowFMTransformer,
            {},
            {"_training.train_jointly": train_in_turn},
        ),
    }


class LabelModel(JointModel):
    """A velocity field that is told the class; there is no encoder."""

    def forward(self, x_1, x_0, t, classes):
        given = F.one_hot(classes, self.n_components).float()
        x_1, weight = self.coordinates(x_1), self.coordinates.weight
        flow = flow_matching_loss(self.velocity_field, x_1, x_0, t, given, weight)
        return flow, None, None


# ------------------------------------------------------------------------- the runs
def judged(variant, split, counts, steps, seed):
    """Return ({metric: value}, seconds of training) of a variant."""
    kind, parameters, constants = variant
    wall, cpu = time.perf_counter(), time.process_time()
    with ExitStack() as changes:
        for name, value in constants.items():
            changes.enter_context(patch(f"skflowfm.{name}", value))
        model = kind(
            max_steps=steps, validation_fraction=0, random_state=seed, **parameters
        ).fit(split.X, groups=split.groups)
    found = {"train_cpu_seconds": time.process_time() - cpu}
    wall = time.perf_counter() - wall
    sampler = JumpSampler if kind is ShortcutTransformer else FlowFMSampler
    sampler = sampler(FrozenEstimator(model), quality=EVALUATIONS, random_state=seed)
    sampler.fit(split.X, split.y)
    X, y = sampler.sample(class_counts=counts)
    found |= probe(model, split, seed) | quality(split, X, y, seed)
    return found, wall


def judged_on_labels(split, counts, steps, seed):
    """Return the same of a velocity field that is told the class of each window."""
    classes, codes = np.unique(split.y, return_inverse=True)
    wall, cpu = time.perf_counter(), time.process_time()
    base = FlowFMTransformer(max_steps=0, random_state=seed).fit(split.X).module_
    generator, row_shape = private_generator(seed), split.X.shape[1:]
    model = LabelModel(
        base.standardise,
        base.coordinates,
        nn.Identity(),
        nn.Identity(),
        on_meta(WindowVelocityField, generator, *row_shape, len(classes)),
        on_meta(Projector, generator, len(classes)),
        len(classes),
    )
    rows, codes = Rows(split.X.astype(np.float32)), torch.from_numpy(codes)
    plain = JointDraws(model, rows, lambda index, x_1, generator: (), 0.0, "cpu")

    def draw(index, generator):
        return plain(index, generator) | {"classes": codes[index]}

    budget = Budget(steps, None, BATCH_SIZE, field_rate=FIELD_RATE)
    index = torch.arange(len(rows))
    train(model, draw, index, index[:0], Plan(budget, seed))
    found = {"train_cpu_seconds": time.process_time() - cpu}
    wall = time.perf_counter() - wall
    y = np.repeat(classes, [counts[c] for c in classes.tolist()])
    given = torch.from_numpy(np.searchsorted(classes, y))
    X = drawn_of_labels(model, F.one_hot(given).float(), rows, seed)
    return found | quality(split, X, y, seed), wall


def drawn_of_labels(model, given, rows, seed):
    """Return windows, their spectra mended as those of the sampler."""
    steps = steps_of(EVALUATIONS, "auto", STOP)
    drawn = decode(model, given, rows.row_shape, seed, steps)
    drawn_spectrum, real_spectrum = (
        mean_log_spectrum(model.standardise(x))
        for x in (drawn, rows[torch.arange(len(rows))])
    )
    gain = gain_against(drawn_spectrum - real_spectrum)
    return decode(model, given, rows.row_shape, seed, steps._replace(gain=gain)).numpy()


def jobs(data, seed, options):
    """Yield (methods, protocol, function) of one data set and seed."""
    try:
        split = split_subjects(data, seed)
    except ValueError as error:
        print(f"  no ablation of the method: {error}", flush=True)
        return
    counts, steps = smaller(split, options.draws), options.max_steps or STEPS
    for name, variant in variants(data.X.shape[1]).items():
        yield (name,), PROTOCOL, job(name, judged, variant, split, counts, steps, seed)
    yield (LABELS,), PROTOCOL, job(LABELS, judged_on_labels, split, counts, steps, seed)


def job(name, function, *arguments):
    """Return a function that runs another and yields what `paper.py` writes."""

    def run():
        yield name, *function(*arguments)

    return run
