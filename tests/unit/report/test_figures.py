import json
from collections.abc import Iterator

import pytest

from expertree.report import figures
from expertree.report.embedding_figures import embedding_figures
from expertree.report.schema import Run
from expertree.report.shift_figures import shift_figures
from expertree.report.tree_drawing import colours_of

COLOURS = colours_of(["low_light", "blur", "noise", "rain", "snow", "haze", "jpeg"])


def all_figures(run: Run) -> list[figures.Figure]:
    found = [figures.loss_figure(run, COLOURS), figures.timeline_figure(run)]
    assert all(found)
    return [
        *figures.degradation_figures(run),
        *figures.routing_figures(run),
        *embedding_figures(run, COLOURS),
        *shift_figures(run),
        *filter(None, found),
    ]


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from strings(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from strings(entry)


def test_figures_are_plain_data_with_names_of_their_own(run: Run) -> None:
    made = all_figures(run)
    assert len({figure.key for figure in made}) == len(made) == 16
    json.dumps([(f.data, f.layout) for f in made], allow_nan=False)


def test_every_colour_is_one_that_both_colour_schemes_define(run: Run, html: str) -> None:
    light, dark = html.split("@media (prefers-color-scheme: dark)")[:2]
    used = {s for f in all_figures(run) for s in strings((f.data, f.layout)) if s.startswith("--")}
    assert used
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark.split("* {")[0]


def test_the_gain_is_drawn_from_the_better_of_input_and_network_to_the_routed(run: Run) -> None:
    run["tables"][0]["rows"][0]["psnr_rgb"][1] = 24.4
    figure = figures.degradation_figures(run)[0]
    rows = {row["method"]: row["psnr_rgb"] for row in run["tables"][0]["rows"]}
    ends = [(shape["x0"], shape["x1"]) for shape in figure.layout["shapes"]]
    base = list(rows["one_network_tree"])
    base[1] = 24.4
    assert ends == list(zip(base, rows["routed"], strict=True))


def test_charts_leave_out_what_would_crowd_them(run: Run) -> None:
    names = [trace["name"] for trace in figures.degradation_figures(run)[0].data]
    assert names[:4] == ["input", "classical", "one network", "one network, tree"]
    assert not {"root", "random expert"} & set(names)


def test_heatmaps_show_the_shares_of_levels_and_leaves(run: Run) -> None:
    inside, outside = figures.routing_figures(run)
    left, levels = (run["routing"]["in"][name] for name in ("as_is", "levels"))
    assert inside.data[0]["x"] == ["as is", "level 0", "level 1", "level 2"]
    assert inside.data[0]["z"] == [[a, *row] for a, row in zip(left, levels, strict=True)]
    assert outside.data[1]["z"] == run["routing"]["out"]["leaves"]
    assert inside.data[1]["x"][4] == "#9 low-light"


def test_an_experts_curve_begins_where_its_parents_ends(run: Run) -> None:
    figure = figures.loss_figure(run, COLOURS)
    assert figure is not None
    starts = {trace["name"]: trace["x"][0] for trace in figure.data}
    assert starts["one network"] == starts["one network, tree"] == starts["#0"] == 80
    assert starts["#2 noise"] == 9_600 + 80
    assert starts["#6 noise"] == 2 * 9_600 + 80


def test_the_curve_of_an_adapter_begins_where_the_roots_ends(run: Run) -> None:
    for expert in run["experts"]:
        expert["parent"] = 0 if expert["index"] else None
    figure = figures.loss_figure(run, COLOURS)
    assert figure is not None
    starts = {trace["name"]: trace["x"][0] for trace in figure.data}
    assert starts["#2 noise"] == starts["#6 noise"] == 9_600 + 80


def test_a_smoothed_curve_keeps_a_constant_and_a_short_one_is_left_alone() -> None:
    assert figures._smoothed([0.5] * 200) == [0.5] * 200
    assert figures._smoothed([3.0, 1.0, 2.0]) == [3.0, 1.0, 2.0]


def test_the_timeline_has_a_bar_an_attempt_and_marks_what_was_lost(run: Run) -> None:
    figure = figures.timeline_figure(run)
    assert figure is not None
    assert len(figure.data) == len(run["timeline"])
    lost = [trace for trace in figure.data if trace["marker"]["pattern"]["shape"]]
    assert [trace["text"] for trace in lost] == [["#2 lost"]]
    shown = {trace["text"][0] for trace in figure.data}
    assert {"one network", "one network, tree"} <= shown


@pytest.mark.parametrize(("lane", "shown"), [(0, "lane 0"), ("lane-3", "lane 3"), ("a@b", "a@b")])
def test_lanes_read_the_same_by_number_and_by_name(lane: str | int, shown: str) -> None:
    assert figures._lane({"lane": lane}, on_machines=False) == shown


def test_lanes_name_their_machine_when_there_are_several(run: Run) -> None:
    for number, span in enumerate(run["timeline"]):
        span["node"] = f"worker{number % 2}"
    figure = figures.timeline_figure(run)
    assert figure is not None
    assert figure.data[0]["y"] == ["lane 0 on worker0"]


def test_a_span_may_call_its_expert_by_index_key_or_label(run: Run) -> None:
    run["experts"][4]["label"] = "level 1, group 2"
    spans = [
        {"expert": e, "start_s": 0.0, "end_s": 1.0} for e in (2, "node-02", "level 1, group 2")
    ]
    figure = figures.timeline_figure(run | {"timeline": spans})
    assert figure is not None
    assert [trace["text"] for trace in figure.data] == [["#2"]] * 3


def test_what_was_not_run_has_no_figure() -> None:
    empty: Run = {"title": "x"}
    assert figures.degradation_figures(empty) == figures.routing_figures(empty) == []
    assert figures.loss_figure(empty, COLOURS) is None
    assert figures.timeline_figure(empty) is None


def test_shift_shows_every_choice_and_draws_coarser_levels_higher(run: Run) -> None:
    psnr, levels = shift_figures(run)[:2]
    curves = run["shift"]["single"]
    names = [trace["name"] for trace in psnr.data]
    compared = ["one network, tree", "one network"]
    assert names == ["input", *compared, "finest level", "routed", "best level"]
    assert psnr.data[4]["y"] == curves["routed"]
    assert levels.data[0]["y"] == curves["mean_level"]
    low, high = levels.layout["yaxis"]["range"]
    assert low > high


def test_shift_shows_what_was_measured(run: Run) -> None:
    del run["shift"]["single"]["one_network_tree"]
    names = [trace["name"] for trace in shift_figures(run)[0].data]
    assert names == ["input", "one network", "finest level", "routed", "best level"]


def test_a_run_without_points_of_shift_has_no_such_charts(run: Run) -> None:
    run["shift"] = {}
    assert shift_figures(run) == []
