"""Bundles in repositories of the Hugging Face Hub, at one commit that somebody has looked at."""

import concurrent.futures
import re
from pathlib import Path, PurePosixPath

from expertree.errors import ArtefactError, StorageError, TransientStorageError
from expertree.restorer.manifest import MANIFEST, check_file, read_manifest
from expertree.storage import Storage

SCHEME = "hf://"
"""Beginning of a bundle's name that stands for a repository: `hf://owner/name@commit`."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_AT_ONCE = 4

_PASSING = frozenset({"NetworkError", "ProxyError", "RemoteProtocolError", "TimeoutException"})
"""Errors of the Hub's client, by name: it comes with one library for HTTP or another."""

_PASSING_STATUS = (408, 425, 429)
_SERVER_FAULT = 500


def fetch_bundle(repository: str, *, revision: str, digest: str | None = None) -> Storage:
    """Bring a bundle from a repository into the cache of the Hub's own client, and check it.

    Only what the manifest lists is fetched, each file must have the hash that it names, and a
    bundle holds JSON and safetensors alone, so nothing of a repository is ever executed. What is in
    the cache is not fetched again; `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HOME` work as
    for other programs.

    Args:
        repository: Owner and name, `owner/name`.
        revision: The commit, by all its 40 digits: a branch or tag could become another model.
        digest: Digest that the manifest must have, from whoever vouches for the model; any if None.

    Returns:
        The bundle's directory in the cache.

    Raises:
        ArtefactError: If the repository, commit or a file is not there, or a file is not what the
            manifest says, or the manifest not what the digest says.
        TransientStorageError: If the Hub cannot be reached, or the connection is cut.
        StorageError: If the Hub refuses, may not be asked (`HF_HUB_OFFLINE`), or the cache cannot
            be written.
        ValueError: If the repository or revision is not one.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise ValueError(f"a repository is owner/name, got '{repository}'")
    if not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"revision must be a commit's 40 hexadecimal digits, got '{revision}': a branch or tag "
            "may become another model; the repository's list of commits has them"
        )
    path = _fetched(repository, revision, MANIFEST)
    directory = Storage.open(path.parent)
    manifest = read_manifest(directory)
    if digest is not None and manifest.digest != digest:
        raise ArtefactError(
            f"{repository} at {revision[:12]} has digest {manifest.digest}, not {digest}"
        )
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: _fetched(repository, revision, name), manifest.files))
    for name in manifest.files:
        check_file(directory, name, manifest)
    return directory


def parse_name(name: str) -> tuple[str, str]:
    """Return repository and revision of `hf://owner/name@commit`.

    Raises:
        ArtefactError: If it is not of this form.
    """
    repository, mark, revision = name.removeprefix(SCHEME).partition("@")
    if not mark:
        raise ArtefactError(
            f"'{name}' names no commit; give {SCHEME}{repository}@ and its 40 digits"
        )
    return repository, revision


def _fetched(repository: str, revision: str, name: str) -> Path:
    """Return where a file of a repository lies in the cache, once it is there."""
    from huggingface_hub import errors, hf_hub_download  # noqa: PLC0415 - a second to load
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # noqa: PLC0415

    place = PurePosixPath(name)
    folder = None if place.parent == PurePosixPath() else str(place.parent)
    try:
        return Path(
            hf_hub_download(
                repository,
                place.name,
                subfolder=folder,
                revision=revision,
                library_name="expertree",
            )
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ArtefactError(
            f"there is no {repository} at {revision[:12]}, or it needs a token (HF_TOKEN)"
        ) from error
    except errors.EntryNotFoundError as error:
        # Also what an unreachable Hub looks like to the client where a file is not in its cache.
        if isinstance(error, errors.LocalEntryNotFoundError):
            message = f"the Hub cannot be reached for {repository}: {error}"
            raise _storage_error(message, error.__cause__) from error
        raise ArtefactError(f"{repository} at {revision[:12]} has no {name}") from error
    except (HTTPError, OSError, RuntimeError) as error:
        message = f"{repository} cannot be fetched: {str(error) or type(error).__name__}"
        raise _storage_error(message, error) from error


def _storage_error(message: str, cause: BaseException | None) -> StorageError:
    """Return the error that a failed download is: one that passes, if its cause may."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled  # noqa: PLC0415

    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        passes = status in _PASSING_STATUS or status >= _SERVER_FAULT
    elif isinstance(cause, OfflineModeIsEnabled):
        passes = False
    else:
        names = {base.__name__ for base in type(cause).__mro__}
        passes = isinstance(cause, ConnectionError | TimeoutError) or bool(names & _PASSING)
    return TransientStorageError(message) if passes else StorageError(message)
