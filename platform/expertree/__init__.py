"""A tree of image-restoration experts, cut from degradation embeddings and routed per image.

The package is a functional core (images, degradations, embeddings, trees, experts, routing) and
one shell, `expertree.orchestration`, which alone knows Ray.  `Restorer` opens a finished bundle
without Ray:

    from expertree import Restorer

    restorer = Restorer.load()
    restoration = restorer.restore(image)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expertree.restorer import Restorer
    from expertree.routing import Wish

__all__ = ["Restorer", "Wish", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a public class when it is first asked for, since torch takes seconds to load."""
    if name == "Restorer":
        from expertree.restorer import Restorer  # noqa: PLC0415

        return Restorer
    if name == "Wish":
        from expertree.routing import Wish  # noqa: PLC0415

        return Wish
    raise AttributeError(f"module 'expertree' has no attribute {name!r}")
