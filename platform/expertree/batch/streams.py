"""Reading a photograph from a stream and writing it to one: standard ones, pipes, devices."""

import sys
from pathlib import Path

from expertree.batch.settings import STANDARD
from expertree.errors import ConfigError
from expertree.storage import Storage


def is_stream(text: str) -> bool:
    """Return whether an input or output is read or written from its begin to its end, once.

    That is `-`, and whatever is neither a file nor a folder: `<(...)`, `/dev/stdout`.
    """
    path = Path(text)
    return text == STANDARD or (path.exists() and not path.is_file() and not path.is_dir())


def read_stream(text: str) -> bytes:
    """Read all of an input, a stream or a file.

    Raises:
        ConfigError: If it is standard input, and that is closed.
        OSError: If it cannot be read.
    """
    if text != STANDARD:
        return Path(text).read_bytes()
    if sys.stdin is None:
        raise ConfigError("standard input is closed; give a file for -i, or < FILE")
    return sys.stdin.buffer.read()


def write_stream(text: str, data: bytes) -> None:
    """Write all of an output, a stream or a file; a file is there whole or not at all.

    Raises:
        ConfigError: If it is standard output, and that is closed.
        OSError: If a stream cannot be written.
        StorageError: If a file cannot be written.
    """
    if text == STANDARD:
        if sys.stdout is None:
            raise ConfigError("standard output is closed; give a file for -o")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    elif is_stream(text):
        with Path(text).open("wb") as stream:
            stream.write(data)
    else:
        path = Path(text).absolute()
        Storage.open(path.parent).write_bytes(path.name, data)
