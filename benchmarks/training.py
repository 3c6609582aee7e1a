"""Cost of the training loop: skorch's loop against the same loop in bare torch.

Both arms train the same model from the same start on the same draws, so their losses
and weights must agree; what differs is the loop around them.

    python benchmarks/training.py [--windows 5000] [--steps 60] [--repeats 3]

Prints the largest difference between final weights and the ratio of CPU times (process
time, which other processes on the machine disturb less than wall time).
"""

import argparse
import time

import numpy as np
import torch
from _common import environment

from skflowfm import FlowFMTransformer
from skflowfm._budget import Budget, Plan
from skflowfm._draws import Batches, prepare, private_generator
from skflowfm._training import train
from skflowfm._validation import Rows
from skflowfm.alignment import info_nce
from skflowfm.datasets import make_wearable
from skflowfm.nets.views import window_view

SEED = 0
ALIGNMENT = 1.0
BATCH_SIZE = 64


def start(X, n_steps):
    """Return the untrained model and the draws of its training."""
    model = (
        FlowFMTransformer(max_steps=0, device="cpu", random_state=SEED).fit(X).module_
    )
    index = torch.arange(len(X))
    budget = Budget(n_steps, None, BATCH_SIZE)
    draw, *_ = prepare(
        model,
        Rows(X),
        index,
        index[:0],
        window_view,
        0.1,
        Plan(budget, SEED, alignment=ALIGNMENT),
    )
    return model, draw


def wrapped(model, draw, n_rows, n_steps):
    """Train with the package's loop."""
    budget = Budget(n_steps, None, BATCH_SIZE)
    index = torch.arange(n_rows)
    train(model, draw, index, index[:0], Plan(budget, SEED, alignment=ALIGNMENT))


def bare(model, draw, n_rows, n_steps):
    """Train with the fewest lines of torch that do the same."""
    budget = Budget(n_steps, None, BATCH_SIZE)
    batches = Batches(draw, torch.arange(n_rows), budget, private_generator(SEED))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2, fused=True)
    model.train()
    while budget.spent() < 1:
        for draws, _ in batches:
            for group in optimizer.param_groups:
                group["lr"] = budget.rate()
            optimizer.zero_grad()
            flow, projected, other = model(**draws)
            loss = flow.mean() + ALIGNMENT * info_nce(projected, other)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            budget.n_steps += 1
    model.eval()


def timed(loop, X, n_steps):
    """Return CPU seconds and the final weights of one run."""
    model, draw = start(X, n_steps)
    before = time.process_time()
    loop(model, draw, len(X), n_steps)
    seconds = time.process_time() - before
    return seconds, torch.cat([p.detach().flatten() for p in model.parameters()])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=5000)
    parser.add_argument("--timesteps", type=int, default=300)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for name, value in environment().items():
        print(f"{name}: {value}")
    X, _, _ = make_wearable(
        arguments.windows,
        n_timesteps=arguments.timesteps,
        random_state=SEED,
        return_X_y=True,
    )
    for loop in (wrapped, bare):
        timed(loop, X[:256], 2)  # the first use of each imports a lot
    seconds = {"wrapped": [], "bare": []}
    for repeat in range(arguments.repeats):
        weights = {}
        for name, loop in (("wrapped", wrapped), ("bare", bare)):
            used, weights[name] = timed(loop, X, arguments.steps)
            seconds[name].append(used)
            print(f"run {repeat + 1} {name}: {used:.1f} CPU s", flush=True)
    difference = (weights["wrapped"] - weights["bare"]).abs().max().item()
    ratios = np.array(seconds["wrapped"]) / np.array(seconds["bare"])
    print(f"largest difference of final weights: {difference:.2e}")
    print(
        f"CPU time wrapped / bare: median {np.median(ratios):.3f}, "
        f"best of each {min(seconds['wrapped']) / min(seconds['bare']):.3f}"
    )


if __name__ == "__main__":
    main()
