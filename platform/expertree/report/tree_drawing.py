"""Lays out the expert tree as cards and ribbons; the page's template draws it."""

import dataclasses
from collections.abc import Mapping, Sequence

from expertree.report import formatting
from expertree.report.schema import TreeNode, TreeSummary

CARD_WIDTH_PX = 232
CARD_HEIGHT_PX = 76
WIDTH_PX = 1110
"""Width that the columns are spread over, as far as the gaps' limits allow."""

COLUMN_GAPS_PX = (72, 190)
ROW_GAP_PX = 14
HEADER_PX = 52
BAR_WIDTH_PX = CARD_WIDTH_PX - 28
THICKEST_RIBBON_PX = 56.0
LABEL_CHARACTERS = 19


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece of a card's bar: samples of one degradation.

    Attributes:
        colour: A CSS variable's name.
        x_px: Left end, from the bar's left.
    """

    label: str
    colour: str
    x_px: float
    width_px: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """The card of a node. Positions are of its top left corner.

    Attributes:
        level: Its level, and how far it is indented where the tree is shown as a list.
        verdict: "better" or "worse" than its parent, "shared" if it uses its parent's expert,
            else "".
        routed_px: Length of the line for the share of images routed to it.
    """

    index: int
    level: int
    x_px: float
    y_px: float
    label: str
    title: str
    verdict: str
    verdict_text: str
    caption: str
    parts: tuple[Part, ...]
    routed_px: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ribbon:
    """A band for the samples that go from a parent to a child: an SVG path and its width."""

    path: str
    width_px: float
    colour: str
    child: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The heading of a level's column."""

    x_px: float
    title: str
    caption: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """The drawing of a whole tree, coarse on the left, fine on the right; cards depth first."""

    width_px: float
    height_px: float
    columns: tuple[Column, ...]
    cards: tuple[Card, ...]
    ribbons: tuple[Ribbon, ...]


def draw_tree(tree: TreeSummary, colours: Mapping[str, str]) -> Drawing | None:
    """Lay out a tree.

    Args:
        tree: The tree, nodes breadth first.
        colours: CSS variable names by degradation.

    Returns:
        The drawing; None for a tree without nodes.
    """
    nodes = tree.get("nodes", ())
    if not nodes:
        return None
    centres = _centres_y(nodes)
    lefts = _lefts_px(1 + max(node["level"] for node in nodes))
    return Drawing(
        width_px=lefts[-1] + CARD_WIDTH_PX,
        height_px=max(centres.values()) + CARD_HEIGHT_PX / 2 + 4,
        columns=tuple(_column(tree, level, left) for level, left in enumerate(lefts)),
        cards=tuple(
            _card(node, lefts[node["level"]], centres[node["index"]], colours)
            for node in _depth_first(nodes, None)
        ),
        ribbons=_ribbons(nodes, lefts, centres, colours),
    )


def colours_of(degradations: Sequence[str]) -> dict[str, str]:
    """Return a CSS variable for each degradation, the same one wherever it is drawn."""
    return {name: f"--task-{number % 8}" for number, name in enumerate(degradations)}


def colour_of(caption: str, colours: Mapping[str, str]) -> str:
    """Return the colour of the one degradation that a caption names, else a neutral one."""
    text = caption.replace("-", " ").replace("_", " ").lower()
    named = [colour for task, colour in colours.items() if task.replace("_", " ") in text]
    return named[0] if len(named) == 1 else "--task-mixed"


def node_colour(node: TreeNode, colours: Mapping[str, str]) -> str:
    """Return the colour of what at least half of a node's samples are, else a neutral one."""
    dominant = node.get("dominant", ())
    is_clear = bool(dominant) and dominant[0][1] >= 0.5
    return colour_of(dominant[0][0], colours) if is_clear else "--task-mixed"


def children_of(nodes: Sequence[TreeNode], index: int | None) -> list[TreeNode]:
    """Return a node's children in order; the roots for None."""
    return [node for node in nodes if node.get("parent") == index]


def _depth_first(nodes: Sequence[TreeNode], start: int | None) -> list[TreeNode]:
    found: list[TreeNode] = []
    for node in children_of(nodes, start):
        found += [node, *_depth_first(nodes, node["index"])]
    return found


def _centres_y(nodes: Sequence[TreeNode]) -> dict[int, float]:
    centres: dict[int, float] = {}
    next_leaf_px = HEADER_PX + CARD_HEIGHT_PX / 2

    def place(node: TreeNode) -> float:
        nonlocal next_leaf_px
        below = [place(child) for child in children_of(nodes, node["index"])]
        if not below:
            below = [next_leaf_px]
            next_leaf_px += CARD_HEIGHT_PX + ROW_GAP_PX
        centres[node["index"]] = (below[0] + below[-1]) / 2
        return centres[node["index"]]

    for root in children_of(nodes, None):
        place(root)
    return centres


def _lefts_px(num_levels: int) -> tuple[float, ...]:
    least, most = COLUMN_GAPS_PX
    gap = (WIDTH_PX - num_levels * CARD_WIDTH_PX) / max(num_levels - 1, 1)
    return tuple(n * (CARD_WIDTH_PX + min(max(gap, least), most)) for n in range(num_levels))


def _column(tree: TreeSummary, level: int, left_px: float) -> Column:
    found = [entry for entry in tree.get("levels", ()) if entry.get("level") == level]
    entry = found[0] if found else {}
    num_nodes = sum(node["level"] == level for node in tree.get("nodes", ()))
    num_groups = entry.get("num_groups") or num_nodes
    silhouette = entry.get("silhouette")
    groups = f"{num_groups} {'group' if num_groups == 1 else 'groups'}"
    if formatting.measured(silhouette) and num_groups > 1:
        groups += f", silhouette {formatting.number(silhouette)}"
    return Column(x_px=left_px, title=f"Level {level}", caption=groups)


def _card(node: TreeNode, left_px: float, centre_px: float, colours: Mapping[str, str]) -> Card:
    dominant = node.get("dominant", ())
    verdict, verdict_text = _verdict(node)
    samples = f"{formatting.grouped(node.get('num_samples'))} samples"
    routed = node.get("share_routed")
    caption = f"{samples} · {formatting.percent(routed)} routed" if routed is not None else samples
    shares = ", ".join(f"{formatting.name(n)} {formatting.percent(s)}" for n, s in dominant)
    name = f"Node {node['index']}, level {node['level']}: {caption}"
    said = (name, shares, node.get("backbone", ""), verdict_text)
    return Card(
        index=node["index"],
        level=node["level"],
        x_px=left_px,
        y_px=centre_px - CARD_HEIGHT_PX / 2,
        label="all samples" if node.get("parent") is None else _label(dominant),
        title=". ".join(part for part in said if part),
        verdict=verdict,
        verdict_text=verdict_text,
        caption=caption,
        parts=_parts(dominant, colours),
        routed_px=BAR_WIDTH_PX * min(max(routed or 0.0, 0.0), 1.0),
    )


def _label(dominant: Sequence[tuple[str, float]]) -> str:
    if not dominant:
        return "samples of all kinds"
    kind, share = formatting.name(dominant[0][0]), formatting.percent(dominant[0][1])
    if dominant[0][1] >= 0.5 or len(dominant) == 1:
        return f"{formatting.shortened(kind, LABEL_CHARACTERS - len(share))} {share}"
    kinds = ", ".join(formatting.name(name) for name, _ in dominant[:3])
    return formatting.shortened(f"{kinds}, …", LABEL_CHARACTERS)


def _verdict(node: TreeNode) -> tuple[str, str]:
    if node.get("expert", node["index"]) != node["index"]:
        return "shared", f"uses expert #{node['expert']}"
    difference = node.get("gain_over_parent_db")
    if not formatting.measured(difference):
        return "", ""
    return ("better" if difference > 0 else "worse"), f"{formatting.gain(difference)} dB"


def _parts(dominant: Sequence[tuple[str, float]], colours: Mapping[str, str]) -> tuple[Part, ...]:
    parts: list[Part] = []
    start_px = 0.0
    for label, share in dominant:
        width_px = min(share * BAR_WIDTH_PX, BAR_WIDTH_PX - start_px)
        colour = colour_of(label, colours)
        parts.append(Part(label=label, colour=colour, x_px=start_px, width_px=width_px))
        start_px += width_px
    return tuple(parts)


def _ribbons(
    nodes: Sequence[TreeNode],
    lefts: Sequence[float],
    centres: Mapping[int, float],
    colours: Mapping[str, str],
) -> tuple[Ribbon, ...]:
    total = max((node.get("num_samples", 0) for node in nodes), default=0) or 1
    ribbons: list[Ribbon] = []
    for parent in nodes:
        children = children_of(nodes, parent["index"])
        widths = [_ribbon_px(child, total) for child in children]
        start_px = centres[parent["index"]] - sum(widths) / 2
        for child, width_px in zip(children, widths, strict=True):
            x0, x1 = lefts[parent["level"]] + CARD_WIDTH_PX, lefts[child["level"]]
            y0, y1, middle = start_px + width_px / 2, centres[child["index"]], (x0 + x1) / 2
            path = (
                f"M{x0:.1f},{y0:.1f}C{middle:.1f},{y0:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f}"
            )
            colour = node_colour(child, colours)
            ribbons.append(
                Ribbon(path=path, width_px=width_px, colour=colour, child=child["index"])
            )
            start_px += width_px
    return tuple(ribbons)


def _ribbon_px(node: TreeNode, total: int) -> float:
    return max(THICKEST_RIBBON_PX * node.get("num_samples", 0) / total, 2.0)
