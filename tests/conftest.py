"""What all tests share: one thread, no global randomness, real data if it is there."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy.fft import dct

ROOT = Path(__file__).parents[1]

# What is not in test_cuda.py is said of the CPU.
if not os.environ.get("SKFLOWFM_CUDA"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.set_num_threads(1)
# A shared machine is slow at times; and a run must be repeatable.
settings.register_profile("skflowfm", deadline=None, derandomize=True)
settings.load_profile("skflowfm")


def global_random_states():
    """Return the state of each process-wide generator, as comparable values."""
    name, keys, *position = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy": (name, keys.tobytes(), *position),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def global_random_state_is_left_alone(request):
    """Fail a test that moves a global generator, unless it is marked for it."""
    before = global_random_states()
    yield
    if request.node.get_closest_marker("uses_global_rng"):
        return
    after = global_random_states()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        pytest.fail(f"the global random state of {', '.join(changed)} has changed")


@pytest.fixture(scope="session")
def shared_data():
    """Return a function from the name of a real data set to the path of its npz."""
    folder = Path(os.environ.get("SKFLOWFM_DATA", ROOT.parent / "shared" / "data"))

    def path_of(name):
        path = folder / f"{name}.npz"
        if not path.exists():
            pytest.skip(
                f"real data {path} not found; set SKFLOWFM_DATA to the folder that "
                "holds it"
            )
        return path

    return path_of


@pytest.fixture
def seeded():
    """Return a function from a seed to a private generator of torch."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture
def spectral_error():
    """How far mean log powers of drawn windows are from real ones, but for scale."""

    def error(X, drawn):
        drawn, real = (
            np.log10(dct(x.astype(float), norm="ortho") ** 2 + 1e-14).mean(axis=0)
            for x in (drawn, X)
        )
        excess = (drawn - real)[:, 1:]
        smooth = np.apply_along_axis(np.convolve, 1, excess, np.ones(5) / 5, "valid")
        return smooth.std(axis=1).mean()

    return error
