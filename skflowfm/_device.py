"""Where a model is: the device, and the same numbers on it each time."""

import threading
from contextlib import ContextDecorator

import torch
from torch import nn


def resolve_device(device) -> str:
    """Return the device that ``"auto"`` means here: CUDA, or else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not isinstance(device, (str, torch.device)):
            raise TypeError(f"it is a {type(device).__name__}")
        resolved = torch.device(device)
        if resolved.type == "meta":
            raise TypeError("it holds no numbers")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be 'auto' or a device that torch can use here, got "
            f"device={device!r} ({str(error).splitlines()[0]}). "
            "device='auto' always finds one."
        ) from None
    return str(resolved)


def place(module: nn.Module, device: str) -> nn.Module:
    """Return ``module`` with its weights on ``device``."""
    return module.to(device)


class the_same_again(ContextDecorator):
    """Lets cuDNN, if it is used, add in the same order each time; then as before.

    The switch is one for the whole process: the first thread that comes turns it, the
    last that goes turns it back.
    """

    lock, inside, before = threading.Lock(), 0, None

    def __enter__(self):
        cudnn, cls = torch.backends.cudnn, the_same_again
        with cls.lock:
            if not cls.inside:
                cls.before = cudnn.deterministic, cudnn.benchmark
                cudnn.deterministic, cudnn.benchmark = True, False
            cls.inside += 1

    def __exit__(self, *exception):
        cudnn, cls = torch.backends.cudnn, the_same_again
        with cls.lock:
            cls.inside -= 1
            if not cls.inside:
                cudnn.deterministic, cudnn.benchmark = cls.before
