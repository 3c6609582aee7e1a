"""Small layers shared by the encoders and the velocity fields."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def bounded(h: Tensor) -> Tensor:
    r"""Return :math:`h / \sqrt{1 + \overline{h^2}}`, row by row.

    Unlike layer norm it is one-to-one, whatever the number of components.
    """
    return h * torch.rsqrt(1 + h.square().mean(dim=1, keepdim=True))


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero: what it feeds starts as the identity."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ZeroUnfold(nn.ConvTranspose1d):
    """A transposed convolution that starts at zero."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over channels at each time: (n, channels, time) to the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class TimeEmbedding(nn.Module):
    """Cosines and sines of t at geometric frequencies, then two linear layers.

    **Shape.** t: (n,); output: (n, width).
    """

    def __init__(self, width: int, n_frequencies: int = 32):
        super().__init__()
        self.n_frequencies = n_frequencies
        self.net = nn.Sequential(
            nn.Linear(2 * n_frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        octaves = torch.arange(self.n_frequencies, device=t.device, dtype=t.dtype)
        frequency = math.pi * torch.exp(octaves * (math.log(128.0) / octaves.numel()))
        angle = t[:, None] * frequency  # (n, n_frequencies)
        return self.net(torch.cat([angle.cos(), angle.sin()], dim=1))


class Modulation(nn.Module):
    """Shift, scale and gate of a residual branch, read off the condition (AdaLN-zero).

    All three start at zero, so each block starts as the identity [1]_.

    References
    ----------
    .. [1] W. Peebles and S. Xie, "Scalable Diffusion Models with Transformers",
           ICCV 2023.
    """

    def __init__(self, n_condition: int, width: int):
        super().__init__()
        self.linear = ZeroLinear(n_condition, 3 * width)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.linear(F.silu(condition)).chunk(3, dim=1)  # 3 x (n, width)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter of ``module`` from ``generator``, in place.

    torch's own initialisers draw from the process-wide generator; this one gives the
    same laws (uniform within one over the square root of the fan-in; norms at one)
    and leaves that generator alone.

    Raises
    ------
    TypeError
        If a layer with parameters is of a kind that it does not know.
    """
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, (ZeroLinear, ZeroUnfold, nn.LayerNorm)):
            layer.reset_parameters()
        elif isinstance(layer, (nn.Linear, nn.Conv1d)):
            fan_in = layer.weight[0].numel()
            bound = 1.0 / math.sqrt(fan_in)
            for parameter in own:
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif own:
            raise TypeError(f"no initialiser for {type(layer).__name__}")
