r"""skflowfm: recognise and generate with one jointly trained model.

An encoder :math:`E` turns a window of sensor data, or a table row, into a
representation :math:`z = E(x_1)`. A velocity field :math:`v` carries noise to data
along straight paths :math:`x_t = (1 - t) x_0 + t x_1` (**t = 0 is source, t = 1 is
data**), given that representation. One loss without labels trains both:

.. math::

    \mathbb E \lVert v(x_t, t, E(x_1)) - (x_1 - x_0) \rVert^2 .

Recognition then needs the encoder alone, generation a few steps along the velocity.

Reading order: ``flow_matching.py`` is the method; ``nets/joint.py`` the model;
``_training.py`` the loop; ``_transformer.py`` the estimator. ``_generation.py`` is how
a request becomes draws.
"""

from ._augmentation import AugmentedClassifier, make_synthetic
from ._classifier import FlowFMClassifier
from ._health import CollapseWarning
from ._regressor import FlowFMRegressor
from ._sampler import FlowFMSampler
from ._stream import stream
from ._transformer import FlowFMTransformer
from .persistence import load

__version__ = "0.1.0"

__all__ = [
    "AugmentedClassifier",
    "CollapseWarning",
    "FlowFMClassifier",
    "FlowFMRegressor",
    "FlowFMSampler",
    "FlowFMTransformer",
    "load",
    "make_synthetic",
    "stream",
]
