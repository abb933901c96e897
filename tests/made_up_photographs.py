"""Real photographs, spoiled in seven ways and restored by halves: pictures for a report."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Image = NDArray[np.float32]


PHOTOGRAPHS = {
    "low_light": (data.coffee, 60, 150),
    "blur": (data.chelsea, 30, 130),
    "noise": (data.astronaut, 10, 120),
    "rain": (data.rocket, 60, 220),
    "snow": (data.coffee, 100, 260),
    "haze": (data.rocket, 120, 180),
    "jpeg": (data.astronaut, 150, 60),
}


SIDE_PX = 224


def made_up_images() -> dict[str, bytes]:
    rng = np.random.default_rng(7)
    images: dict[str, bytes] = {}
    for distribution, strength in (("in", 1.0), ("out", 1.7)):
        for task, (load, top, left) in PHOTOGRAPHS.items():
            clean = load()[top : top + SIDE_PX, left : left + SIDE_PX, :3].astype(np.float32) / 255
            degraded = _degrade(task, clean, strength, rng)
            versions = {
                "clean": clean,
                "input": degraded,
                "one_network_tree": 0.45 * degraded + 0.55 * cv2.GaussianBlur(clean, (0, 0), 1.4),
                "routed": 0.12 * degraded + 0.88 * cv2.GaussianBlur(clean, (0, 0), 0.55),
            }
            for kind, image in versions.items():
                images[f"{distribution}-{task}-{kind}"] = _png(image)
    return images


def _degrade(task: str, clean: Image, strength: float, rng: np.random.Generator) -> Image:
    return globals()[f"_{task}"](clean, strength, rng)


def _low_light(clean: Image, strength: float, _: np.random.Generator) -> Image:
    return clean ** (1 + 1.1 * strength) * 0.62


def _blur(clean: Image, strength: float, _: np.random.Generator) -> Image:
    return cv2.GaussianBlur(clean, (0, 0), 2.2 * strength)


def _noise(clean: Image, strength: float, rng: np.random.Generator) -> Image:
    return clean + 0.1 * strength * rng.standard_normal(clean.shape).astype(np.float32)


def _rain(clean: Image, strength: float, rng: np.random.Generator) -> Image:
    drops = (rng.standard_normal(clean.shape[:2]) > 2.6).astype(np.float32)
    return clean + 0.7 * strength * cv2.filter2D(drops, -1, np.eye(19) / 4)[..., None]


def _snow(clean: Image, strength: float, rng: np.random.Generator) -> Image:
    flakes = (rng.standard_normal(clean.shape[:2]) > 3.0).astype(np.float32)
    mask = np.clip(cv2.GaussianBlur(flakes, (0, 0), 1.3) * 9 * strength, 0, 1)[..., None]
    return clean * (1 - mask) + mask


def _haze(clean: Image, strength: float, _: np.random.Generator) -> Image:
    through = np.exp(-0.75 * strength * np.linspace(1.5, 0.5, SIDE_PX, dtype=np.float32))
    return clean * through[:, None, None] + 0.9 * (1 - through[:, None, None])


def _jpeg(clean: Image, strength: float, _: np.random.Generator) -> Image:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(14 / strength)]
    coded = cv2.imencode(".jpg", (clean * 255).astype(np.uint8), quality)[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32) / 255


def _png(image: Image) -> bytes:
    image_u8 = np.clip(image * 255, 0, 255).round().astype(np.uint8)
    return cv2.imencode(".png", image_u8[..., ::-1])[1].tobytes()
