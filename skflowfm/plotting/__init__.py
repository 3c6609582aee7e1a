"""Pictures of windows, representations and quality, as matplotlib figures.

Each function returns a ``matplotlib.figure.Figure`` and shows nothing: save it with
``figure.savefig("windows.png")``; a notebook displays it as it is. Global settings and
the backend of matplotlib are left alone. matplotlib comes with
``pip install "skflowfm[plot]"``.
"""

from ._pictures import plot_representation, plot_windows
from ._quality import plot_quality

__all__ = ["plot_quality", "plot_representation", "plot_windows"]
