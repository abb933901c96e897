"""The classical methods, by degradation: one explicit line each.

Each degradation has several methods. The one that is used is chosen once, by its mean PSNR on
patches that no result is measured on (`pipeline.classical`).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from expertree.classical import filters, light
from expertree.images.arrays import ImageU8

VERSION = 1
"""Version of the methods. Raise it when a method gives another image: stored choices and scores are
then made again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to restore one degradation, settings included.

    Attributes:
        name: Name in the report.
        restore: Restores a degraded image; both are uint8 `[height, width, 3]` RGB.
    """

    name: str
    restore: Callable[[ImageU8], ImageU8]


AS_IT_IS = Method(name="as it is", restore=lambda image_u8: image_u8)
"""The method that leaves an image unchanged; a candidate for every degradation."""


def _method(name: str, restore: Callable[..., ImageU8], **settings: float) -> Method:
    shown = ", ".join(f"{key} {value:g}" for key, value in settings.items())
    return Method(name=f"{name} ({shown})", restore=lambda image_u8: restore(image_u8, **settings))


def _for_its_noise(name: str, restore: Callable[..., ImageU8], weight: float) -> Method:
    """Return a method whose deviation of the noise is estimated from each image."""
    return Method(
        name=f"{name} (weight {weight:g})",
        restore=lambda image_u8: restore(
            image_u8, sigma=filters.noise_sigma(image_u8), weight=weight
        ),
    )


_NOISE = (
    _for_its_noise("non-local means", filters.non_local_means, 0.85),
    _for_its_noise("non-local means", filters.non_local_means, 1.0),
    Method(
        name="bilateral (three times the noise)",
        restore=lambda image_u8: filters.bilateral(
            image_u8, sigma=3.0 * filters.noise_sigma(image_u8), std_px=2.0
        ),
    ),
)
_BLUR = (
    _method("unsharp masking", filters.unsharp, std_px=2.0, amount=1.0),
    _method("unsharp masking", filters.unsharp, std_px=3.0, amount=1.0),
    _method("Wiener", filters.wiener, std_px=1.5, noise=0.02),
    _method("Wiener", filters.wiener, std_px=2.0, noise=0.02),
    _method("Richardson-Lucy", filters.richardson_lucy, std_px=1.5, num_steps=8),
    _method("Richardson-Lucy", filters.richardson_lucy, std_px=2.0, num_steps=8),
)

REGISTRY: Mapping[str, tuple[Method, ...]] = {
    "low_light": (
        _method("light by gamma", light.brighten, gamma=1.25),
        _method("light by gamma", light.brighten, gamma=1.5),
        _method("light by gamma", light.brighten, gamma=1.75),
        _method("light by gamma", light.brighten, gamma=2.0),
        _method("gamma to a mean", light.brighten_to_mean, mean=0.4),
        _method("CLAHE", light.equalise, clip_limit=2.0),
    ),
    "motion_blur": _BLUR,
    "blur": _BLUR,
    "noise": _NOISE,
    "rain": (
        _method("grey top-hat", filters.without_bright, width_px=9, height_px=1, share=1.0),
        _method("grey top-hat", filters.without_bright, width_px=15, height_px=1, share=1.0),
        _method("grey top-hat", filters.without_bright, width_px=15, height_px=1, share=0.6),
        _method("median across", filters.median_across, size_px=9),
    ),
    "snow": (
        _method("grey top-hat", filters.without_bright, width_px=7, height_px=7, share=1.0),
        _method("grey top-hat", filters.without_bright, width_px=11, height_px=11, share=1.0),
        _method("grey top-hat", filters.without_bright, width_px=7, height_px=7, share=0.6),
        _method("median", filters.median, size_px=5),
    ),
    "haze": (
        _method("dark channel prior", light.dehaze, window_px=15, strength=0.95),
        _method("dark channel prior", light.dehaze, window_px=15, strength=0.75),
        _method("dark channel prior", light.dehaze, window_px=7, strength=0.75),
        _method("dark channel prior", light.dehaze, window_px=7, strength=0.5),
    ),
    "jpeg": (
        _method("non-local means", filters.non_local_means, sigma=3.0),
        _method("non-local means", filters.non_local_means, sigma=6.0),
        _method("bilateral", filters.bilateral, sigma=12.0, std_px=1.5),
        _method("bilateral", filters.bilateral, sigma=24.0, std_px=1.5),
    ),
}
"""Methods by degradation. `AS_IT_IS` is one more for each; see `methods_of`."""

FOR_SETS: Mapping[str, tuple[Method, ...]] = {
    "low_light": tuple(
        _method("one gamma", light.brighten_evenly, exponent=exponent)
        for exponent in (0.3, 0.35, 0.4, 0.5)
    ),
}
"""Further methods where public sets go beyond what is synthesised: LOL is darker, and there one
gamma for all images beats published networks. Builds do not choose among them."""


def methods_of(task: str) -> tuple[Method, ...]:
    """Return the candidates for a degradation; ties go to the first, so the input comes last."""
    return (*REGISTRY.get(task, ()), AS_IT_IS)


def candidates_for(tasks: Sequence[str]) -> tuple[Method, ...]:
    """Return what a public set's images are restored with classically, told their degradations.

    For one degradation these are all of its methods. For several it is the first method of each,
    then the second of each, and so on, undone in reverse order; the input is none of them.

    Args:
        tasks: The degradations in the order in which they were applied.
    """
    each = [(*REGISTRY.get(task, ()), *FOR_SETS.get(task, ())) for task in tasks]
    if len(each) == 1:
        return each[0]
    return tuple(
        Method(
            name=" then ".join(method.name for method in reversed(methods)),
            restore=functools.partial(
                restore_classically, tasks=tasks, chosen=dict(zip(tasks, methods, strict=True))
            ),
        )
        for methods in zip(*each, strict=False)
    )


def restore_classically(
    image_u8: ImageU8, tasks: Sequence[str], chosen: Mapping[str, Method]
) -> ImageU8:
    """Undo the degradations of an image one after the other, the last first.

    Args:
        image_u8: The degraded image.
        tasks: Its degradations in the order in which they were applied; with none, the image is
            left as it is.
        chosen: The method of each degradation.
    """
    for task in reversed(tasks):
        image_u8 = chosen[task].restore(image_u8)
    return image_u8
