"""Same seed, same threads: same bytes, in any process, and no global state touched."""

import hashlib
import os
import random
import subprocess
import sys

import numpy as np
import torch

from skflowfm import FlowFMSampler, FlowFMTransformer

SCRIPT = """
import sys, hashlib
import numpy as np
import torch
torch.set_num_threads(1)
from skflowfm import FlowFMSampler, FlowFMTransformer
X = np.random.default_rng(0).normal(size=(150, 2, 40)).cumsum(axis=-1)
y = np.repeat([0, 1, 2], 50)
model = FlowFMTransformer(6, max_steps=60, random_state=3)
sampler = FlowFMSampler(model, quality=2, random_state=3).fit(X, y)
Z = sampler.transformer_.transform(X)
parts = [
    Z,
    sampler.sample(70),
    sampler.sample_like(X[:5]),
    sampler.transformer_.inverse_transform(Z[:5]),
    sampler.transformer_.score_samples(X),
]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_a_fresh_process_gives_the_same_bytes():
    printed = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(k)},
        ).stdout
        for k in range(2)
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].strip()) == 64


def global_states():
    version, keys, *rest = np.random.get_state()
    states = (torch.get_rng_state().numpy().tobytes(), version, keys.tobytes(), *rest)
    return hashlib.sha256(repr((states, random.getstate())).encode()).hexdigest()


def test_global_random_states_are_left_alone():
    X = np.random.default_rng(0).normal(size=(150, 2, 40))
    y = np.repeat([0, 1, 2], 50)
    before = global_states()
    model = FlowFMTransformer(6, max_steps=5)
    sampler = FlowFMSampler(model).fit(X, y)
    sampler.sample(3)
    sampler.sample_like(X[:2])
    sampler.fit_resample(X, y)
    fitted = sampler.transformer_
    fitted.inverse_transform(fitted.transform(X))
    fitted.score_samples(X)
    fitted.partial_fit(X)
    assert global_states() == before


def test_settings_of_the_process_are_left_alone():
    before = (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )
    FlowFMTransformer(max_steps=2).fit(np.random.default_rng(0).normal(size=(40, 3)))
    after = (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    )
    assert after == before
