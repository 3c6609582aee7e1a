"""Plain torch modules, usable without scikit-learn: encoders and velocity fields.

Pass an instance of one of the encoders or velocity fields, or of a module of your own
with the same ``forward``, as ``encoder=`` or ``velocity_field=``.
"""

from .components import PrincipalComponents
from .encoder import ConvEncoder, FeatureEncoder
from .joint import JointModel
from .stem import Stem
from .velocity_field import VectorVelocityField, WindowVelocityField

__all__ = [
    "ConvEncoder",
    "FeatureEncoder",
    "JointModel",
    "PrincipalComponents",
    "Stem",
    "VectorVelocityField",
    "WindowVelocityField",
]
