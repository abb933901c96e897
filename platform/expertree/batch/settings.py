"""Settings of a batch, with their defaults."""

import dataclasses
from typing import Literal, TypeAlias

from expertree.config import fingerprint, to_dict
from expertree.images.containers import PhotoFormat
from expertree.restorer.engines import EngineName
from expertree.restorer.shipped import SHIPPED
from expertree.restorer.tiles import OVERLAP_PX
from expertree.routing import AUTOMATIC, Wish

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
ExistingPolicy: TypeAlias = Literal["refuse", "skip", "overwrite"]

STANDARD = "-"
"""Text that stands for standard input or output in place of a path."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestoreOptions:
    """Options that decide, beside the model, how photographs are restored and written."""

    wish: Wish = AUTOMATIC
    """What is wanted of the choice and of the work; it is the same for all photographs."""

    overlap_px: int = OVERLAP_PX
    """Overlap of neighbouring tiles."""

    route_tiles: bool = False
    """Whether each tile gets the expert of its own choice."""

    dtype: Dtype = "float32"
    """Type that the expert computes in; the choice of it is always made in float32."""

    format: PhotoFormat | None = None
    """Format of the restored files; each photograph's own if None."""

    quality: int | None = None
    """Quality of lossy formats, 1 to 100; see `write_photo`."""

    @property
    def digest(self) -> str:
        """Hash of the options."""
        own = to_dict(self)
        wish = own.pop("wish")
        if not wish["words"]:  # as it was before there were words
            del wish["words"]
        return fingerprint(wish | own)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """Settings of a batch."""

    input: str
    """A file, a folder, or `-`."""

    output: str
    """A file, a folder, or `-`; a folder if the input is one."""

    watch: bool = False
    """Whether to go on with what comes into the folder, until a signal ends it."""

    recursive: bool = False
    """Whether folders in the folder are restored too, and mirrored."""

    suffix: str = ""
    """Text that is put behind each name, before its extension."""

    existing: ExistingPolicy = "refuse"
    """What to do where a restored file would go and something else lies there."""

    bundle: str = SHIPPED
    """The model: a directory, the URI of one, or the name of that which comes with the package."""

    device: str | None = None
    """Device that the networks run on; by default a GPU if there is one."""

    engine: EngineName = "torch"
    """What experts compute by; files that it restored are not restored again by another."""

    cluster: str | None = None
    """A Ray cluster to restore on (`auto`, `host:port`, or `local` for one of its own)."""

    report: str | None = None
    """An HTML page to write, with photographs before and after."""

    as_json: bool = False
    """Whether the summary is JSON."""

    dry_run: bool = False
    """Whether to say only what would be done."""

    preserve: bool = True
    """Whether restored files get the times and permissions of their photographs."""

    options: RestoreOptions = RestoreOptions()
