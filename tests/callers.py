"""Callers of an endpoint: their keys, and a file that claims to be large."""

import hashlib
import struct
import zlib
from typing import Any

from expertree.serving import Key


def key(name: str, token: str, **limits: Any) -> Key:
    return Key(name=name, sha256=hashlib.sha256(token.encode()).hexdigest(), **limits)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claiming(width_px: int, height_px: int) -> bytes:
    """A PNG of 65 bytes or so that claims to be large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content
