"""Encoders turn texts and images into vectors, and are found by name.

Importing this package is cheap. May import values.
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
