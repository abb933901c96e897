"""The models that come with the package, by name."""

import os
from pathlib import Path

from expertree.errors import ArtefactError
from expertree.storage import Storage

SHIPPED = "photo-1"
"""The model that is used unless another is given. MODEL_CARD.md beside it says what it is."""

_MODELS = Path(__file__).parents[1] / "models"


def find_bundle(bundle: str | os.PathLike[str] = SHIPPED) -> Storage:
    """Return the directory of a bundle.

    Args:
        bundle: The name of a model that comes with the package, or a directory, or the URI of one.
            A folder that has a model's name needs a path: `./photo-1`.

    Raises:
        ArtefactError: If the package was installed without its models.
    """
    if os.fspath(bundle) != SHIPPED:
        return Storage.open(bundle)
    folder = _MODELS / SHIPPED
    if not folder.is_dir():
        raise ArtefactError(
            f"this installation has no model {SHIPPED} in {_MODELS}; install the package again, or "
            "give a bundle of your own"
        )
    return Storage.open(folder)
