"""Simulated tri-axial accelerometer windows, as a watch on the wrist would record them.

A window is what the accelerometer feels, in g, plus its own noise::

    x(t) = M_s [ gravity(t) + gait(t) + bursts(t) ] + noise(t)

``gravity`` is a unit vector: the posture of the activity, tilted differently in every
window and drifting within it. ``gait`` is a sum of harmonics of the step frequency,
``bursts`` band-limited noise that comes and goes, ``M_s`` the rotation with which
person s wears the device. All movement is a function of continuous time.
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import Bunch, check_scalar


class _Activity(NamedTuple):
    """What one activity feels like; x points to the hand, z out of the watch face."""

    posture: tuple[float, float, float]  # direction of "up", the mean reading in g
    tilt: float  # spread of the posture between windows, in g
    drift: float  # spread of the posture within a window, in g
    cadence: tuple[float, float]  # steps per second, Hz
    gait: float  # amplitude of the step harmonic, in g
    burst: float  # amplitude of the bursts, in g
    band: tuple[float, float]  # frequencies inside a burst, Hz


_ACTIVITIES = {
    "rest": _Activity((-0.5, 0.1, 0.8), 0.35, 0.015, (0, 0), 0.0, 0.012, (0.3, 4)),
    "typing": _Activity((-0.2, 0.2, 0.9), 0.2, 0.02, (0, 0), 0.0, 0.04, (1, 12)),
    "household": _Activity((-0.6, 0.3, 0.6), 0.3, 0.2, (0, 0), 0.0, 0.22, (0.3, 12)),
    "walk": _Activity((-0.9, 0.3, 0.2), 0.15, 0.05, (1.6, 2.2), 0.3, 0.06, (0.5, 12)),
    "stairs": _Activity((-0.8, 0.4, 0.3), 0.2, 0.08, (1.2, 1.7), 0.22, 0.1, (0.5, 12)),
    "run": _Activity((-0.4, 0.8, 0.2), 0.15, 0.05, (2.4, 3.1), 0.9, 0.2, (0.5, 14)),
}

# A stride is two steps, so the arm swing has half the step frequency.
_HARMONICS = (0.5, 1.0, 2.0, 3.0, 4.0)
_HARMONIC_AMPLITUDES = np.array([0.45, 1.0, 0.4, 0.2, 0.1])

_DESCR = """Simulated wrist accelerometer windows
-------------------------------------
{0[0]} windows of {0[2]} samples at {1:g} Hz, three axes in g, {2} simulated people.
Activities: {3}.

Gravity, gait, bursts of irregular movement and sensor noise are simulated; see
``help(make_wearable)`` for what is not. A result on them says nothing about people.
"""


def make_wearable(
    n_windows=600,
    *,
    n_timesteps=150,
    sampling_rate=30.0,
    n_subjects=8,
    activities=tuple(_ACTIVITIES),
    noise=0.02,
    random_state=None,
    return_X_y=False,
):
    """Simulate labelled windows of a wrist-worn tri-axial accelerometer.

    Each person wears the device in their own way (a rotation of about 25 degrees) and
    has their own vigour, cadence and gait (amplitudes, phases and directions of the
    harmonics), so test a model on people it has not seen: split by ``groups``. The
    step frequency lies in 1.6-2.2 Hz for "walk", 1.2-1.7 Hz for "stairs" and
    2.4-3.1 Hz for "run"; the other activities have no gait. The phase of the gait is
    random in every window, so a linear model of the raw samples sees little more than
    posture.

    Not modelled: transitions between activities, continuity from one window to the
    next, biomechanics (the gait is a sum of harmonics with a little jitter, without
    heel strikes), gyroscopes, loose straps, saturation, quantisation, irregular or
    missing samples and wrong labels. Use it to try things out, not to rank methods.

    Parameters
    ----------
    n_windows : int, default=600
        Number of windows. Classes, people and their combinations are as balanced as
        this number allows: their counts differ by at most one. From ``n_subjects *
        len(activities)`` on, every person does every activity.
    n_timesteps : int, default=150
        Samples per window. Longer windows are easier to tell apart.
    sampling_rate : float, default=30.0
        Samples per second, in Hz. Movement above half of it is left out, not aliased;
        below 6.2 Hz running begins to lose its step frequency.
    n_subjects : int, default=8
        Number of simulated people. For an integer seed they stay the same people
        whatever the other parameters are, and new ones are added after them.
    activities : sequence of str, default=("rest", "typing", "household", "walk", \
"stairs", "run")
        The classes: any of the default names, in any order. ``y`` indexes them.
    noise : float, default=0.02
        Standard deviation in g of the white sensor noise, and of the slowly varying
        offset added to it. Larger values hide "typing", which then looks like "rest".
    random_state : int, RandomState instance or None, default=None
        Seed. None draws fresh entropy from the operating system. The global random
        state of NumPy is neither read nor changed.
    return_X_y : bool, default=False
        If True, return the tuple ``(X, y, groups)`` in place of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch` or tuple
        X : float32 array of shape (n_windows, 3, n_timesteps)
            Acceleration including gravity, in g; its norm is about 1 at rest.
        y : int64 array of shape (n_windows,)
            Index into ``classes``.
        groups : int64 array of shape (n_windows,)
            The person, from 0 to ``n_subjects - 1``.
        classes, channels : arrays of str
            Names of the activities and of the axes.
        sampling_rate : float
            In Hz.
        DESCR : str
            A description of the data.

    Raises
    ------
    TypeError, ValueError
        If a parameter is of the wrong type, out of its range or an unknown activity.

    Examples
    --------
    >>> from skflowfm.datasets import make_wearable
    >>> data = make_wearable(n_windows=48, random_state=0)
    >>> data.X.shape
    (48, 3, 150)
    >>> at_rest = data.X[data.classes[data.y] == "rest"]
    >>> f"{(at_rest**2).sum(axis=1).mean() ** 0.5:.1f} g"
    '1.0 g'
    """
    check_scalar(n_windows, "n_windows", Integral, min_val=1)
    check_scalar(n_timesteps, "n_timesteps", Integral, min_val=1)
    check_scalar(n_subjects, "n_subjects", Integral, min_val=1)
    _check_finite(sampling_rate, "sampling_rate", include_zero=False)
    _check_finite(noise, "noise", include_zero=True)
    names = _check_activities(activities)

    rng = _private_generator(random_state)
    people_rng, layout_rng, window_rng, noise_rng = rng.spawn(4)
    people = _draw_people(people_rng, n_subjects)
    y, groups = _layout(layout_rng, n_windows, len(names), n_subjects)
    kind = np.array([list(_ACTIVITIES).index(name) for name in names])[y]
    with np.errstate(over="ignore", invalid="ignore"):  # see below
        time, nyquist = np.arange(n_timesteps) / sampling_rate, sampling_rate / 2
        movement = _gravity(window_rng, kind, time)
        movement += _gait(window_rng, kind, groups, people, time, nyquist)
        movement += _bursts(window_rng, kind, groups, people, time, nyquist)
        X = people["mounting"][groups] @ movement
        X += noise * noise_rng.standard_normal(X.shape)
        X += noise * _waves(noise_rng, (n_windows, 3), time, 0.01, 0.1)
        X = X.astype(np.float32)
    if not np.isfinite(X).all():
        raise ValueError(
            "noise and sampling_rate must give numbers of float32, got noise="
            f"{noise!r} and sampling_rate={sampling_rate!r}. The unit of noise is g."
        )

    if return_X_y:
        return X, y, groups
    return Bunch(
        X=X,
        y=y,
        groups=groups,
        classes=np.array(names),
        channels=np.array(["acc_x_g", "acc_y_g", "acc_z_g"]),
        sampling_rate=float(sampling_rate),
        DESCR=_DESCR.format(X.shape, sampling_rate, n_subjects, ", ".join(names)),
    )


def _check_finite(value, name, include_zero):
    check_scalar(value, name, Real)
    if not np.isfinite(value) or value < 0 or (value == 0 and not include_zero):
        sign = "non-negative" if include_zero else "positive"
        raise ValueError(f"{name} must be a finite {sign} number, got {value!r}.")


def _check_activities(activities):
    names = list(activities)
    known = [name for name in names if name in _ACTIVITIES]
    if not names or len(set(known)) < len(names):
        raise ValueError(
            "activities must be a sequence of one or more different names out of "
            f"{list(_ACTIVITIES)}, got {activities!r}."
        )
    return names


def _private_generator(random_state):
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    if random_state is None or (
        isinstance(random_state, Integral) and random_state >= 0
    ):
        return np.random.default_rng(random_state)
    raise ValueError(
        "random_state must be None, a non-negative int or a numpy.random.RandomState, "
        f"got {random_state!r}."
    )


def _layout(rng, n_windows, n_classes, n_subjects):
    """Class and person of every window, shuffled; all counts differ by at most one."""
    i = np.arange(n_windows, dtype=np.int64)
    # Counting both up in step repeats after lcm windows: then pair them anew.
    shift = i // np.lcm(n_classes, n_subjects)
    order = rng.permutation(n_windows)
    return (i % n_classes)[order], ((i + shift) % n_subjects)[order]


def _draw_people(rng, n_subjects):
    """One array per trait, the person on the first axis."""
    people = [_draw_person(rng) for _ in range(n_subjects)]
    return {trait: np.stack([p[trait] for p in people]) for trait in people[0]}


def _draw_person(rng):
    postures = np.array([activity.posture for activity in _ACTIVITIES.values()])
    shape = (len(postures), len(_HARMONICS))
    jitter = rng.standard_normal((*shape, 3))
    return {
        "mounting": _rotation(np.deg2rad(15) * rng.standard_normal(3)),
        "vigour": rng.lognormal(sigma=0.15),
        "cadence": rng.uniform(0.15, 0.85),
        "amplitudes": _HARMONIC_AMPLITUDES * rng.lognormal(sigma=0.15, size=shape),
        "phases": rng.random(shape),
        "directions": _unit(postures[:, np.newaxis] + 0.6 * jitter, axis=-1),
    }


def _rotation(vector):
    """Rotation matrix about ``vector`` by its length in radians (Rodrigues)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _unit(vectors, axis):
    return vectors / np.linalg.norm(vectors, axis=axis, keepdims=True)


def _waves(rng, shape, time, low, high, nyquist=np.inf, n_waves=12):
    """Noise of unit variance from ``low`` to ``high`` Hz, with a 1/f spectrum."""
    signal = np.zeros((*shape, len(time)))
    for _ in range(n_waves):
        frequency = np.exp(rng.uniform(np.log(low), np.log(high), shape))
        angle = frequency[..., np.newaxis] * time + rng.random(shape)[..., np.newaxis]
        seen = (frequency < nyquist)[..., np.newaxis]
        signal += seen * np.cos(2 * np.pi * angle)
    return signal * np.sqrt(2 / n_waves)


def _per_window(field, kind):
    values = [getattr(activity, field) for activity in _ACTIVITIES.values()]
    return np.array(values, dtype=float)[kind]


def _gravity(rng, kind, time):
    """Unit vectors, of shape (n_windows, 3, n_timesteps)."""
    posture = _per_window("posture", kind)
    tilt = _per_window("tilt", kind)[:, np.newaxis]
    drift = _per_window("drift", kind)[:, np.newaxis, np.newaxis]
    up = posture + tilt * rng.standard_normal(posture.shape)
    moving = drift * _waves(rng, up.shape, time, 0.02, 0.5)
    return _unit(_unit(up, axis=1)[..., np.newaxis] + moving, axis=1)


def _gait(rng, kind, groups, people, time, nyquist):
    """Harmonics of the step frequency, each along its own direction."""
    n_windows = len(kind)
    low, high = _per_window("cadence", kind).T
    pace = people["cadence"][groups] + 0.1 * rng.standard_normal(n_windows)
    cadence = low + (high - low) * np.clip(pace, 0, 1)
    steps = rng.uniform(0, 2, (n_windows, 1)) + cadence[:, np.newaxis] * time
    steps += 0.03 * _waves(rng, (n_windows,), time, 0.02, 0.5)
    strength = _per_window("gait", kind) * people["vigour"][groups]
    strength *= rng.lognormal(sigma=0.15, size=n_windows)

    signal = np.zeros((n_windows, 3, len(time)))
    for h, harmonic in enumerate(_HARMONICS):
        size = strength * people["amplitudes"][groups, kind, h]
        size[harmonic * cadence >= nyquist] = 0
        vector = size[:, np.newaxis] * people["directions"][groups, kind, h]
        start = people["phases"][groups, kind, h][:, np.newaxis]
        wave = np.cos(2 * np.pi * (harmonic * steps + start))
        signal += vector[:, :, np.newaxis] * wave[:, np.newaxis]
    return signal


def _bursts(rng, kind, groups, people, time, nyquist):
    """Band-limited noise under an envelope that is zero about half of the time."""
    n_windows = len(kind)
    size = _per_window("burst", kind) * people["vigour"][groups]
    low, high = _per_window("band", kind).T[..., np.newaxis]
    envelope = np.maximum(_waves(rng, (n_windows, 1), time, 0.05, 0.6), 0)
    carrier = _waves(rng, (n_windows, 3), time, low, high, nyquist)
    return size[:, np.newaxis, np.newaxis] * envelope * carrier
