"""A readout of training that needs no labels, and a warning when it is bad."""

import warnings

import torch

from ._checks import outside
from ._device import the_same_again
from ._generation import device_of, flow_shape
from ._sizes import fewer
from .flow_matching import flow_matching_loss, sample_source
from .ode import integrate

N_BANDS, N_STEPS = 5, 8
MAX_ROWS, MAX_DECODED = 500, 128
LEAST_ROWS, LEAST_DECODED = 64, 32
ONE_DIRECTION, MIN_ROWS = 1.001, 20  # fewer rows may well lie on a line
COLLAPSED_RANK = 1.1
UNTRAINED_LOSS = 1.5


class CollapseWarning(UserWarning):
    """The representation hardly varies between rows."""


def effective_rank(z: torch.Tensor) -> float:
    r"""Return :math:`\exp(H(p))`, p being the normalised covariance eigenvalues [1]_.

    1 means that all rows lie on a line, ``n_components`` that all directions carry the
    same variance, 0 that there is no variance.

    References
    ----------
    .. [1] O. Roy and M. Vetterli, "The effective rank: a measure of effective
           dimensionality", EUSIPCO 2007.
    """
    centred = z.double()
    centred = centred - centred.mean(dim=0)
    power = torch.linalg.svdvals(centred).square()
    if power.sum() <= 1e-12 * max(1, len(z)):
        return 0.0
    p = power / power.sum()
    return float(torch.special.entr(p).sum().exp())


@the_same_again()
def health(model, rows, index, generator) -> dict:
    """Measure the fitted model on at most 500 of its rows.

    Returns
    -------
    dict
        ``effective_rank`` (0 to n_components), ``component_std`` (standard deviation
        of each component, ndarray), ``flow_loss_by_time`` (mean flow loss for t in
        [0, .2), ..., [.8, 1), ndarray; 0 would be a model that knows every row),
        ``left_open`` (how far what is generated from a row's z is from that row, mean
        square in flow coordinates, as a share of how far apart rows are: near 0, z says
        which row it is; at 1 it says nothing).
    """
    device = device_of(model)
    index = index[: fewer(MAX_ROWS, rows.row_shape, LEAST_ROWS)]
    shape = flow_shape(model, rows.row_shape)
    bands = []
    with torch.inference_mode():
        x = model.standardise(rows[index].to(device))
        x_1, z = model.coordinates(x), model.encode(model.stem(x))
        for band in range(N_BANDS):
            x_0 = sample_source((len(x), *shape), generator).to(device)
            t = (band + (torch.arange(len(x), device=device) + 0.5) / len(x)) / N_BANDS
            loss = flow_matching_loss(
                model.velocity_field, x_1, x_0, t, z, model.coordinates.weight
            )
            bands.append(float(loss.mean()))
        components = model.axes(z).cpu()
        some = slice(fewer(MAX_DECODED, rows.row_shape, LEAST_DECODED))
        x_0 = sample_source((len(x_1[some]), *shape), generator).to(device)
        open_share = left_open(model, x_1[some], x_0, z[some])
    deviation = components.std(dim=0, correction=0)
    return {
        "effective_rank": effective_rank(components),
        "component_std": deviation.numpy(),
        "flow_loss_by_time": torch.tensor(bands).numpy(),
        "left_open": open_share,
    }


def left_open(model, x_1, x_0, z) -> float:
    """Return which share of rows their representations leave open; see health."""

    def v(x, t):
        return model.velocity_field(x, x.new_full((len(x),), t), z)

    error = float((integrate(v, x_0, N_STEPS) - x_1).square().mean())
    apart = float((x_1 - x_1.roll(1, dims=0)).square().mean())
    return min(1.0, error / apart) if apart > 1e-12 else 1.0


def rank_of_data(model, rows, index) -> float:
    """Return the effective rank of the standardised rows themselves."""
    index = index[: fewer(MAX_ROWS, rows.row_shape, LEAST_ROWS)]
    with torch.inference_mode():
        x = model.standardise(rows[index].to(device_of(model)))
    return effective_rank(x.flatten(1).cpu())


def warn_on_collapse(readout: dict, data_rank: float, n_rows, n_varying) -> None:
    """Warn if rows are all represented (almost) alike, or hardly differ themselves.

    ``data_rank`` is that of ``n_rows`` rows, of which ``n_varying`` values vary.
    """
    rank = readout["effective_rank"]
    n_components = len(readout["component_std"])
    explained = n_rows < MIN_ROWS or n_varying == 1 or n_components == 1
    if data_rank < ONE_DIRECTION and rank < COLLAPSED_RANK and not explained:
        warnings.warn(
            f"The rows vary along one direction or not at all (effective rank "
            f"{data_rank:.2f}), and so does the representation. Look for constant "
            "rows, marks of missing values (such as 999999) and single rows far out.",
            CollapseWarning,
            stacklevel=outside(),
        )
    if rank < min(COLLAPSED_RANK, 0.5 * data_rank, n_components / 2):
        warnings.warn(
            f"The representation has collapsed: its effective rank is {rank:.2f} of "
            f"{n_components} components, for data of effective rank {data_rank:.1f}. "
            "Train longer (max_steps), keep alignment > 0, or check the encoder.",
            CollapseWarning,
            stacklevel=outside(),
        )


def warn_of_untrained(transformer):
    """Warn where nothing was learned of how rows are drawn.

    Of a field that is 0 the loss is about 2; one that goes on from another fit, without
    a step of its own, has less.
    """
    loss = transformer.health_["flow_loss_by_time"].mean()
    if transformer.n_steps_ == 0 and loss > UNTRAINED_LOSS:
        warnings.warn(
            "The transformer has not been trained (0 steps), so what is drawn are not "
            "rows like those of fit. Only its features are of use: train it, with "
            "max_steps=None, to sample.",
            UserWarning,
            stacklevel=outside(),
        )
