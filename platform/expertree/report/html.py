"""The parts that every page is made with: templates, scripts, plotly, settings in words."""

import base64
import functools
import gzip
import importlib.resources
import json
from collections.abc import Mapping

import jinja2
from markupsafe import Markup

from expertree.report import formatting


@functools.cache
def plotly_compressed() -> str:
    """Return plotly.js as base64 of gzip: 2 MB instead of 4.8, unpacked by the browser itself."""
    source = importlib.resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(source, 9, mtime=0)).decode()


def environment() -> jinja2.Environment:
    """Return the environment that loads templates; it escapes what they write."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("expertree.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def source(name: str) -> Markup:
    """Return the text of a style sheet or script of this package."""
    folder = importlib.resources.files("expertree.report") / "templates"
    return Markup(folder.joinpath(name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def script_json(value: object) -> Markup:
    """Return JSON for a script element: without `<`, no text in it can end the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - the line above is the escape


def pairs(data: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as dotted keys and values."""
    found: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            found += pairs(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            found.append((f"{prefix}{key}", text))
    return found


def quantity(key: str, value: object) -> tuple[str, str]:
    """Return a name without its unit, and the value with it: `wall_s`, 75 is wall, 1 min 15 s."""
    words = key.replace("_", " ")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return words, str(value)
    if key.endswith("_s"):
        return words.removesuffix(" s"), formatting.duration(value)
    if key.endswith("_bytes"):
        return words.removesuffix(" bytes"), f"{formatting.count(value)}B"
    if isinstance(value, int):
        return words.removeprefix("num "), formatting.grouped(value)
    return words, formatting.number(value)
