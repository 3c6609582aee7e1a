"""The only training loop: skorch's, over ready-made draws."""

import sys
from dataclasses import dataclass

import pandas as pd
import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    GradientNormClipping,
    PassthroughScoring,
)
from torch import nn

from ._device import the_same_again
from ._draws import (
    STEPS_PER_ROUND,
    Batches,
    FixedBatches,
    ignore,
    pool,
    prepare,
    private_generator,
)
from .alignment import info_nce

PATIENCE = 8


class JointNet(NeuralNet):
    """skorch's loop over ready-made draws; the module returns per-row losses."""

    def __init__(self, *args, alignment=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alignment = alignment

    def get_split_datasets(self, X, y=None, **fit_params):
        return X, y

    def get_iterator(self, dataset, training=False):
        return dataset

    def get_loss(self, y_pred, y_true, X=None, training=False):
        flow, projected, other = y_pred
        loss = flow.mean()
        prefix = "train" if training else "valid"
        self.history.record_batch(f"{prefix}_flow", loss.item())
        if other is not None:
            agreement = self.criterion_(projected, other)
            self.history.record_batch(f"{prefix}_alignment", agreement.item())
            loss = loss + self.alignment * agreement
        return loss


class Schedule(Callback):
    """Sets the learning rate and counts steps."""

    def __init__(self, budget):
        self.budget = budget

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            for group in net.optimizer_.param_groups:
                group["lr"] = self.budget.rate() * group.get("relative_rate", 1.0)

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.budget.n_steps += 1

    def on_epoch_end(self, net, **kwargs):
        net.history.record("step", self.budget.n_steps)
        net.history.record("seconds", self.budget.seconds)


class End(Callback):
    """Ends training with the budget, when all others have seen the last round."""

    def __init__(self, budget):
        self.budget, self.reached = budget, False

    def on_epoch_end(self, net, **kwargs):
        if self.budget.spent() >= 1:
            self.reached = True
            raise KeyboardInterrupt


class Progress(Callback):
    """One line that is rewritten as training goes on; in a file, its last state."""

    def __init__(self, budget):
        self.budget = budget

    def on_train_begin(self, net, **kwargs):
        self.start, self.line = (self.budget.spent(), self.budget.seconds), ""

    def on_batch_end(self, net, training=False, **kwargs):
        if not training:
            return
        spent, seconds = self.budget.spent(), self.budget.seconds
        total = f"/{self.budget.max_steps}" if self.budget.max_steps else ""
        own = getattr(net.module_, "loss_name", "flow")
        losses = "  ".join(
            f"{name} {net.history[-1, 'batches', -1, key]:.3f}"
            for name, key in ((own, "train_flow"), ("alignment", "train_alignment"))
            if key in net.history[-1, "batches", -1]
        )
        done = max(spent - self.start[0], 1e-9)
        left = max(0.0, (1 - spent) * (seconds - self.start[1]) / done)
        self.line = (
            f"step {self.budget.n_steps}{total}  {losses}  "
            f"{seconds:.0f} s, {left:.0f} s left   "
        )
        if sys.stdout.isatty():
            sys.stdout.write("\r" + self.line)
            sys.stdout.flush()

    def on_train_end(self, net, **kwargs):
        if self.line:
            sys.stdout.write(("\r" if sys.stdout.isatty() else "") + self.line + "\n")


def report_views(n_done: int, n: int) -> None:
    """Say how many rows are prepared; in a file, once."""
    if sys.stdout.isatty() or n_done == n:
        start, end = ("\r", "\n" if n_done == n else "")
        sys.stdout.write(f"{start}views of {n_done}/{n} rows{end}")
        sys.stdout.flush()


@dataclass
class Training:
    """What a training run leaves behind besides the weights."""

    history: pd.DataFrame
    n_steps: int
    kept_steps: int  # those of the round that early stopping returned to
    seconds: float
    stopped_by: str


def train(module: nn.Module, draw, index, held_out, plan) -> Training:
    """Train ``module`` in place on draws of the rows at ``index``.

    Parameters
    ----------
    module : nn.Module
        ``module(**draws)`` returns (per-row loss, two projections or None).
    draw : callable
        ``draw(index, generator)`` returns the named draws of a batch.
    index, held_out : Tensor of int
        Rows to train on; rows to watch for early stopping (may be empty).
    plan : Plan
        How long, from which seed, where, with how much alignment.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Training needs gradients, got torch.inference_mode(). Call fit outside of "
            "that block."
        )
    budget, device = plan.budget, plan.device
    budget.begin()
    watched = stopping = None
    if len(held_out):
        held_out_generator = private_generator(plan.seed + 1, device)
        _, some = pool(index, held_out, budget)
        watched = FixedBatches(draw, some, budget.batch_size, held_out_generator)
        # on a fixed set of views the alignment turns up long before the flow does
        stopping = EarlyStopping(
            "valid_flow", patience=PATIENCE, load_best=True, sink=lambda text: None
        )
    batches = Batches(draw, index, budget, private_generator(plan.seed, device))
    end = End(budget)
    rounds = -(-budget.max_steps // STEPS_PER_ROUND) if budget.max_steps else 10**9
    net = JointNet(
        module,
        criterion=lambda: info_nce,  # skorch calls what is no module
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=1e-2,
        optimizer__fused=device != "mps",
        optimizer__param_groups=[
            ("velocity_field.*", {"relative_rate": budget.field_rate})
        ],
        max_epochs=rounds,
        train_split=None,
        device=device,
        verbose=0,
        alignment=plan.alignment,
        callbacks__print_log=None,
        callbacks=list(callbacks_of(plan, stopping, end)),
    )
    module.train()
    with the_same_again():
        net.fit(batches, watched)
    module.eval()
    stopped_by = stop_reason(budget, stopping, end)
    history, kept_steps = tidy(net.history), budget.n_steps
    if stopping is not None and stopping.best_epoch_:
        kept_steps = int(history.step[stopping.best_epoch_ - 1])
    return Training(history, budget.n_steps, kept_steps, budget.seconds, stopped_by)


def callbacks_of(plan, stopping, end):
    """Yield what happens around the steps of a training, in order, with its name."""
    yield "schedule", Schedule(plan.budget)
    yield "clip", GradientNormClipping(1.0)
    if stopping is not None:
        yield "valid_flow", PassthroughScoring("valid_flow")
        yield "stopping", stopping
    if plan.verbose:
        yield "progress", Progress(plan.budget)
    yield "end", end


def train_on(model, rows, index, held_out, view, z_noise, plan):
    """Make the draws of the rows at ``index`` and train.

    See :func:`~skflowfm._draws.prepare` and :func:`train_jointly`.

    Returns
    -------
    training : Training
    index : Tensor of int
        The rows that were used.
    """
    report = report_views if plan.verbose else ignore
    if not model.n_learned:
        plan = plan._replace(alignment=0.0)
    draw, index, held_out = prepare(
        model, rows, index, held_out, view, z_noise, plan, report
    )
    return train_jointly(model, draw, index, held_out, plan), index


def train_jointly(model, draw, index, held_out, plan) -> Training:
    """Train both; the velocity field goes on from where the encoder turned back.

    Where held-out rows are watched, :func:`train` returns to its best round. For the
    encoder that is right. The field's samples get better for much longer than its
    loss on new rows falls, and most of all while the learning rate falls to zero. So
    from that round the field goes on alone, on the rows that were held out too and with
    z as it is, over a schedule of half as many steps again, or in the last third of the
    time.

    Parameters
    ----------
    model : JointModel
        Trained in place.
    draw, index, held_out, plan
        See :func:`train`.
    """
    if not len(held_out):
        return train(model, draw, index, held_out, plan)
    budget, max_time = plan.budget, plan.budget.max_time
    budget.keep_back()
    training = train(model, draw, index, held_out, plan)
    budget.go_on(training.kept_steps, max_time)
    if budget.spent() >= 1:
        return training
    both = [*model.encoder.parameters(), *model.projector.parameters()]
    fixed = [parameter for parameter in both if parameter.requires_grad]
    for parameter in fixed:
        parameter.requires_grad_(False)
    rows = torch.cat([index, held_out])
    alone = plan._replace(alignment=0.0)
    after = train(model, without_views(draw), rows, rows[:0], alone)
    for parameter in fixed:
        parameter.requires_grad_(True)
    history = pd.concat([training.history, after.history], ignore_index=True)
    n_steps, stopped_by = after.n_steps, training.stopped_by
    return Training(history, n_steps, training.kept_steps, after.seconds, stopped_by)


def without_views(draw):
    """Return draws that have nothing for the alignment to compare."""

    def plain(index, generator):
        draws = draw(index, generator)
        return {k: v for k, v in draws.items() if k not in ("view", "other_view")}

    return plain


def stop_reason(budget, stopping, end) -> str:
    """Say what ended training; pass on an interrupt that was the user's.

    skorch ends a training quietly at any interrupt, its own and ours among them.
    """
    if stopping is not None and stopping.misses_ >= stopping.patience:
        return "early_stopping"
    if not end.reached:
        raise KeyboardInterrupt
    by_steps = budget.max_steps and budget.n_steps >= budget.max_steps
    return "max_steps" if by_steps else "max_time"


def tidy(history) -> pd.DataFrame:
    """Return one row per round: step, seconds and mean losses."""
    rows = []
    for epoch in history:
        losses = pd.DataFrame(epoch["batches"]).filter(regex="loss|flow|alignment")
        row = {"step": epoch["step"], "seconds": epoch["seconds"]}
        rows.append(row | losses.mean().to_dict())
    return pd.DataFrame(rows)
