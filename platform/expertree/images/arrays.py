"""Types of the arrays in which the package passes images around."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

ImageU8: TypeAlias = UInt8[np.ndarray, "height width 3"]
"""A decoded image: RGB, 8 bit, HWC."""

Image: TypeAlias = Float32[np.ndarray, "height width 3"]
"""An image to compute with on the CPU: RGB in [0, 1], HWC."""

Field: TypeAlias = Float32[np.ndarray, "height width"]
"""One value per pixel in [0, 1]: a depth map, an illumination map, a mask."""
