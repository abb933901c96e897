"""Where a bundle is, by what people call it."""

import os
from pathlib import Path

from expertree.errors import ArtefactError
from expertree.restorer.hub import SCHEME, fetch_bundle, parse_name
from expertree.storage import Storage

SHIPPED = "photo-1"
"""The model that is used unless another is given. MODEL_CARD.md beside it says what it is."""

_MODELS = Path(__file__).parents[1] / "models"


def find_bundle(bundle: str | os.PathLike[str] = SHIPPED) -> Storage:
    """Return the directory of a bundle.

    Args:
        bundle: The name of a model that comes with the package, or a directory, or the URI of one,
            or `hf://owner/name@commit`, which is fetched (see `hub.fetch_bundle`). A folder that
            has a model's name needs a path: `./photo-1`.

    Raises:
        ArtefactError: If the package was installed without its models, or a repository has no such
            commit or no sound bundle.
        StorageError: If a repository cannot be reached.
    """
    name = os.fspath(bundle)
    if name.startswith(SCHEME):
        repository, revision = parse_name(name)
        try:
            return fetch_bundle(repository, revision=revision)
        except ValueError as error:
            raise ArtefactError(f"'{name}': {error}") from error
    if name != SHIPPED:
        return Storage.open(bundle)
    folder = _MODELS / SHIPPED
    if not folder.is_dir():
        raise ArtefactError(
            f"this installation has no model {SHIPPED} in {_MODELS}; install the package again, or "
            "give a bundle of your own"
        )
    return Storage.open(folder)
