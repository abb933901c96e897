"""Refuse, before any work, what a batch could not do."""

import os
from pathlib import Path

import torch

from expertree.batch.restoring import check_options
from expertree.batch.settings import BatchConfig, RestoreOptions
from expertree.errors import ConfigError
from expertree.restorer import find_bundle, read_outline
from expertree.storage import Storage


def refuse_uris(config: BatchConfig) -> None:
    """Raise if a URI is given where a path is meant: it would name a local folder, such as `s3:`.

    Raises:
        ConfigError: If one is, and there is no file or folder of that name.
    """
    places = {
        "--watch" if config.watch else "--input": config.input,
        "--output": config.output,
        "--report": config.report or "",
    }
    for flag, text in places.items():
        if "://" in text and not Path(text).exists():
            raise ConfigError(
                f"{flag} {text} is a URI; restore reads and writes files of this machine: mount "
                "that storage and give the path, or copy them"
            )


def check_model(config: BatchConfig) -> tuple[str, RestoreOptions]:
    """Check that the bundle can do what is asked; experts stay closed.

    Returns:
        The bundle's digest, and the options with their words understood.

    Raises:
        ArtefactError: If the bundle's small files are damaged.
        ConfigError: If the options ask for what it has not, or there is no such kind of device.
    """
    if config.device is not None:
        try:
            device = torch.device(config.device)
            if config.cluster is None:  # whose workers may have what this machine lacks
                torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"--device {config.device} cannot be used here: {reason}") from error
    outline = read_outline(find_bundle(config.bundle))
    return outline.manifest.digest, check_options(outline, config.options)


def check_report(config: BatchConfig) -> None:
    """Raise StorageError, or ConfigError for a folder, if the report could not be written."""
    if config.report is None:
        return
    path = Path(config.report)
    if path.is_dir():
        raise ConfigError(f"--report {path} is a folder; give a file, such as {path}/report.html")
    if not path.exists():
        Storage.open(path.parent).check_writable()
    elif not os.access(path, os.W_OK):
        raise ConfigError(f"--report {path} cannot be written over")
