"""Plain torch modules, usable without scikit-learn: encoders and velocity fields.

Pass a ``ConvEncoder``, a velocity field, or a module of your own with the same
``forward``, as ``encoder=`` or ``velocity_field=``. ``FeatureEncoder`` reads features:
those of a stem, or the columns of a table.
"""

from .components import PrincipalComponents
from .encoder import ConvEncoder, FeatureEncoder
from .joint import JointModel
from .stem import Stem
from .table import TableStem
from .velocity_field import VectorVelocityField, WindowVelocityField

__all__ = [
    "ConvEncoder",
    "FeatureEncoder",
    "JointModel",
    "PrincipalComponents",
    "Stem",
    "TableStem",
    "VectorVelocityField",
    "WindowVelocityField",
]
