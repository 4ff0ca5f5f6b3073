"""Encoders turn texts and images into vectors, or texts into weights of words; found by name.

Importing this package is cheap: a family's libraries are imported when one of its encoders loads.

May import values.
"""

from .base import Encoder, EncoderOptions, ImageEncoder, Space
from .functions import from_functions
from .registry import families, resolve

__all__ = [
    "Encoder",
    "EncoderOptions",
    "ImageEncoder",
    "Space",
    "families",
    "from_functions",
    "resolve",
]
