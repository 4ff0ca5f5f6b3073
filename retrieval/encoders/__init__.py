"""Encoders: what turns texts and images into vectors, found by name. Importing this is cheap.

One file for each family; the prefix of an encoder's name is the file's name. May import values, and
the libraries that a family needs when one of its encoders is opened.
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
