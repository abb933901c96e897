"""Write and read extractors: `extractor.json`, the image tower, and what only training needs.

Routing needs the image tower only, so a bundle can leave out the text tower and, of the
`controller` form, the frozen tower with its links.
"""

import hashlib
from typing import Any, cast

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from expertree import config as configs
from expertree.embedding.extractor import Extractor, ExtractorConfig
from expertree.errors import ArtefactError, ConfigError
from expertree.storage import Storage

VERSION = 1
"""Format version of the artefact; a reader refuses any other."""

HEADER, IMAGES, CAPTIONS = "extractor.json", "extractor.safetensors", "captions.safetensors"
CONTENT = "content.safetensors"
_HASH_PREFIX = "extractor-"
_APART = {"captions.": CAPTIONS, "content.": CONTENT}
"""Files of the parts that only training needs, by the prefix of their tensors' names."""


def save_extractor(extractor: Extractor, directory: Storage, *, captions: bool = True) -> None:
    """Write an extractor; the same one gives the same bytes.

    Args:
        extractor: The extractor.
        directory: Directory to write to.
        captions: Whether to write the text tower too, and the content tower, if it has them.
    """
    images = safetensors.torch.save(_image_tensors(extractor))
    header = {
        "version": VERSION,
        "config": configs.to_dict(extractor.config),
        "sha256": hashlib.sha256(images).hexdigest(),
    }
    directory.write_bytes(IMAGES, images)
    for prefix, name in _APART.items():
        tensors = {n: t for n, t in _state(extractor).items() if n.startswith(prefix)}
        if captions and tensors:
            directory.write_bytes(name, safetensors.torch.save(tensors))
    directory.write_json(HEADER, header)


def load_extractor(directory: Storage, *, captions: bool = False) -> Extractor:
    """Read an extractor and check that its parts belong together.

    Args:
        directory: Directory that `save_extractor` wrote.
        captions: Whether to read the text tower too, and the content tower, if it has one.

    Returns:
        The extractor, in evaluation mode, on the CPU.

    Raises:
        ArtefactError: If a file is missing, damaged, of another version, or fits another network.
    """
    header = _read_header(directory)
    tensors = _read_tensors(directory, IMAGES, header["sha256"])
    config = _read_config(directory, header)
    try:
        extractor = Extractor(config, load_weights=False, captions=captions)
    except ConfigError as error:
        raise ArtefactError(f"{directory.path(HEADER)} is damaged: {error}") from error
    if captions:
        tensors |= _read_tensors(directory, CAPTIONS)
        tensors |= _read_tensors(directory, CONTENT) if extractor.content is not None else {}
    else:
        extractor.captions, extractor.content = None, None
    try:
        extractor.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtefactError(
            f"{directory.path(IMAGES)} does not fit the network in {HEADER}: {error}"
        ) from error
    return extractor.eval()


def extractor_hash(extractor: Extractor) -> str:
    """Hash what decides an extractor's embeddings: the image tower, the view and the head.

    Returns:
        A name that a tree keeps, so that it is known which extractor it was built with; see
        `is_extractor_hash`.
    """
    weights = hashlib.sha256(safetensors.torch.save(_image_tensors(extractor))).hexdigest()
    return _name(weights, extractor.config)


def stored_extractor_hash(directory: Storage) -> str:
    """Return the `extractor_hash` of an extractor on disk, from its header alone.

    Raises:
        ArtefactError: If the header is missing, damaged or of another version.
    """
    header = _read_header(directory)
    return _name(header["sha256"], _read_config(directory, header))


def stored_extractor_config(directory: Storage) -> ExtractorConfig:
    """Return the settings of an extractor on disk, from its header alone.

    Raises:
        ArtefactError: If the header is missing, damaged or of another version.
    """
    return _read_config(directory, _read_header(directory))


def is_extractor_hash(name: str) -> bool:
    """Return whether a tree's name of its extractor comes from `extractor_hash`.

    Older trees name the stage that trained the extractor, which says nothing about the weights.
    """
    return name.startswith(_HASH_PREFIX)


def _name(weights: str, config: ExtractorConfig) -> str:
    decisive = [weights, config.clip, config.view, config.view_px, config.head]
    return _HASH_PREFIX + configs.fingerprint(decisive)


def _image_tensors(extractor: Extractor) -> dict[str, Tensor]:
    return {n: t for n, t in _state(extractor).items() if not n.startswith(tuple(_APART))}


def _state(extractor: Extractor) -> dict[str, Tensor]:
    return {n: t.detach().cpu().contiguous() for n, t in extractor.state_dict().items()}


def _read_header(directory: Storage) -> dict[str, Any]:
    header = directory.read_json(HEADER)
    version = header.get("version") if isinstance(header, dict) else None
    if version != VERSION:
        raise ArtefactError(
            f"{directory.path(HEADER)} has format version {version!r}, this program reads "
            f"{VERSION}; train the extractor again"
        )
    missing = {"config", "sha256"} - set(header)
    if missing:
        raise ArtefactError(f"{directory.path(HEADER)} lacks {', '.join(sorted(missing))}")
    return cast("dict[str, Any]", header)


def _read_config(directory: Storage, header: dict[str, Any]) -> ExtractorConfig:
    try:
        return configs.load(ExtractorConfig, header["config"])
    except ConfigError as error:
        raise ArtefactError(f"{directory.path(HEADER)} is damaged: {error}") from error


def _read_tensors(directory: Storage, name: str, sha256: str | None = None) -> dict[str, Tensor]:
    data = directory.read_bytes(name)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ArtefactError(
            f"{directory.path(name)} has sha256 {found[:12]}, but {HEADER} names {sha256[:12]}; "
            "they were not written together"
        )
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise ArtefactError(f"{directory.path(name)} is damaged: {error}") from error
