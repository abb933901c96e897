import itertools

from expertree.report.schema import Run, TreeNode, TreeSummary
from expertree.report.tree_drawing import (
    CARD_HEIGHT_PX,
    CARD_WIDTH_PX,
    colour_of,
    colours_of,
    draw_tree,
)

COLOURS = colours_of(["low_light", "noise", "rain"])


def wide_tree(groups: tuple[int, ...]) -> TreeSummary:
    nodes: list[TreeNode] = []
    above: list[int] = []
    for level, number in enumerate(groups):
        level_nodes = range(len(nodes), len(nodes) + number)
        for place, index in enumerate(level_nodes):
            parent = above[place * len(above) // number] if above else None
            nodes.append({"index": index, "level": level, "parent": parent, "num_samples": 10})
        above = list(level_nodes)
    return {"groups": groups, "nodes": nodes}


def test_no_two_cards_overlap_and_all_are_inside() -> None:
    drawing = draw_tree(wide_tree((1, 7, 19)), COLOURS)
    assert drawing is not None
    for a, b in itertools.combinations(drawing.cards, 2):
        apart_x = abs(a.x_px - b.x_px) >= CARD_WIDTH_PX
        apart_y = abs(a.y_px - b.y_px) >= CARD_HEIGHT_PX
        assert apart_x or apart_y, (a.index, b.index)
    assert all(0 <= c.x_px <= drawing.width_px - CARD_WIDTH_PX for c in drawing.cards)
    assert all(0 <= c.y_px <= drawing.height_px - CARD_HEIGHT_PX for c in drawing.cards)


def test_cards_come_parents_first_and_every_child_has_a_ribbon() -> None:
    tree = wide_tree((1, 2, 5))
    drawing = draw_tree(tree, COLOURS)
    assert drawing is not None
    place = {card.index: number for number, card in enumerate(drawing.cards)}
    for node in tree["nodes"]:
        if node["parent"] is not None:
            assert place[node["parent"]] < place[node["index"]]
    assert sorted(ribbon.child for ribbon in drawing.ribbons) == list(range(1, 8))


def test_ribbons_are_as_wide_as_the_samples_they_carry(run: Run) -> None:
    drawing = draw_tree(run["tree"], COLOURS)
    assert drawing is not None
    samples = {node["index"]: node["num_samples"] for node in run["tree"]["nodes"]}
    ratios = {round(r.width_px / samples[r.child], 6) for r in drawing.ribbons}
    assert len(ratios) == 1


def test_a_node_that_does_not_beat_its_parent_is_marked(run: Run) -> None:
    drawing = draw_tree(run["tree"], COLOURS)
    assert drawing is not None
    verdicts = {card.index: (card.verdict, card.verdict_text) for card in drawing.cards}
    assert verdicts[12] == ("worse", "\N{MINUS SIGN}0.12 dB")
    assert verdicts[6] == ("better", "+0.48 dB")
    assert verdicts[5] == ("shared", "uses expert #1")
    assert verdicts[0] == ("", "")


def test_a_gain_of_exactly_nothing_does_not_beat_the_parent() -> None:
    tree = wide_tree((1, 2))
    tree["nodes"][1]["gain_over_parent_db"] = 0.0
    drawing = draw_tree(tree, COLOURS)
    assert drawing is not None
    assert drawing.cards[1].verdict == "worse"


def test_bars_stay_inside_their_card_whatever_the_shares_add_up_to() -> None:
    tree = wide_tree((1,))
    tree["nodes"][0]["dominant"] = [("noise", 0.7), ("rain", 0.7)]
    drawing = draw_tree(tree, COLOURS)
    assert drawing is not None
    last = drawing.cards[0].parts[-1]
    assert last.x_px + last.width_px <= CARD_WIDTH_PX


def test_headings_give_groups_and_silhouette(run: Run) -> None:
    drawing = draw_tree(run["tree"], COLOURS)
    assert drawing is not None
    assert [column.caption for column in drawing.columns] == [
        "1 group",
        "4 groups, silhouette 0.49",
        "8 groups, silhouette 0.63",
    ]


def test_no_tree_no_drawing() -> None:
    assert draw_tree({}, COLOURS) is None


def test_a_caption_has_the_colour_of_the_one_degradation_it_names() -> None:
    assert colour_of("light low-light", COLOURS) == COLOURS["low_light"]
    assert colour_of("noise", COLOURS) == COLOURS["noise"]
    assert colour_of("rain + noise", COLOURS) == "--task-mixed"
    assert colour_of("something else", COLOURS) == "--task-mixed"
