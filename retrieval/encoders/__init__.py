"""Encoders: what turns texts into vectors, found by name. Importing this is cheap."""

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
