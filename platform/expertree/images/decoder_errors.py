"""What Pillow raises, on files that are read and on files that are written."""

import struct
import zlib

from PIL import Image as PillowImage

DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, IndexError, TypeError, KeyError, EOFError),
    *(RuntimeError, OverflowError, AttributeError, struct.error, zlib.error, ZeroDivisionError),
    PillowImage.DecompressionBombError,
)
"""Errors that Pillow raises on damaged or hostile files."""
