"""Draws a tree as a small picture: a row a level, a box a group, as wide as its samples."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from expertree.search.icicle import icicle
from expertree.search.record import Node

WIDTH_PX, ROW_PX, GAP_PX, MARGIN_PX = 640, 64, 2, 8
TEXT_PX = 13
FILLS = ("#1d3b53", "#0a6c74", "#4e9f8f", "#93bf85")
"""Colours by level, coarse to fine; deeper levels share the last."""
UNSERVED, INK, PAPER = "#e4e0d7", "#1d1c1a", "#ffffff"


def tree_png(nodes: Sequence[Node]) -> bytes:
    """Draw a tree as a small picture.

    Args:
        nodes: Its nodes, parents before children.

    Returns:
        A PNG file.
    """
    levels = 1 + max(node["level"] for node in nodes)
    size = (WIDTH_PX + 2 * MARGIN_PX, levels * (ROW_PX + GAP_PX) + 2 * MARGIN_PX)
    picture = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(TEXT_PX)
    for block in icicle(nodes):
        top = MARGIN_PX + block.node["level"] * (ROW_PX + GAP_PX)
        left, right = (MARGIN_PX + WIDTH_PX * edge for edge in (block.left, block.right))
        _draw(pen, font, block.node, (left, top, right - GAP_PX, top + ROW_PX))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def _draw(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    node: Node,
    box: tuple[float, float, float, float],
) -> None:
    fill = FILLS[min(node["level"], len(FILLS) - 1)] if node["served"] else UNSERVED
    left, top, right, bottom = box
    pen.rectangle((left, top, max(right, left + 1), bottom), fill=fill)
    kind = node["dominant"][0][0].replace("_", " ") if node["dominant"] else ""
    colour = PAPER if node["served"] else INK
    for row, text in enumerate((f"#{node['index']}", kind, f"{node['num_samples']}")):
        if pen.textlength(text, font=font) < right - left - 8:
            pen.text((left + 5, top + 5 + 18 * row), text, fill=colour, font=font)
