import pytest

from expertree.degradation.registry import REGISTRY
from expertree.report.embedding_figures import SEVERITIES, embedding_figures, severity
from expertree.report.schema import Run, check_run
from expertree.report.tree_drawing import colours_of

COLOURS = colours_of(["low_light", "blur", "noise", "rain", "snow", "haze", "jpeg"])


def test_every_point_is_in_each_chart_once_with_its_degree_to_read(run: Run) -> None:
    made = embedding_figures(run, COLOURS)
    assert [figure.key for figure in made] == [
        *("embeddings-tsne-degradation", "embeddings-tsne-degree"),
        *("embeddings-pca-degradation", "embeddings-pca-degree"),
    ]
    embeddings = run["embeddings"]
    for figure, key in zip(made, ("tsne", "tsne", "pca", "pca"), strict=True):
        shown = [
            (x, y, text)
            for trace in figure.data
            for x, y, text in zip(trace["x"], trace["y"], trace["text"], strict=True)
        ]
        places = zip(embeddings[key], embeddings["captions"], strict=True)
        assert sorted((x, y) for x, y, _ in shown) == sorted((x, y) for (x, y), _ in places)
        assert any(text == "heavy low-light<br>in distribution" for _, _, text in shown)


def test_colours_are_those_of_the_tree_and_of_severity(run: Run) -> None:
    by_task, by_degree = embedding_figures(run, COLOURS)[:2]
    found = {trace["name"]: trace["marker"]["color"] for trace in by_task.data}
    assert found["low-light"] == COLOURS["low_light"]
    assert found["mixed"] == "--task-mixed"
    names = [trace["name"] for trace in by_degree.data]
    assert names == ["slight", "medium", "severe", "mixed"]


def test_the_mildest_degree_of_each_degradation_is_slight_and_the_strongest_severe() -> None:
    for name, degradation in REGISTRY.items():
        found = [severity(name, f"{degree} {degradation.noun}") for degree in degradation.degrees]
        assert found in (list(SEVERITIES), ["slight", "severe"])
    assert severity("mixed", "thick haze, large rain") == "mixed"


def test_the_degree_of_a_pair_is_unknown() -> None:
    assert severity("haze", "haze") == "unknown"
    assert severity("raindrop", "raindrop") == "unknown"


def test_a_run_without_embeddings_has_no_such_charts(run: Run) -> None:
    del run["embeddings"]
    assert embedding_figures(run, COLOURS) == []


def test_lists_of_different_lengths_are_refused(run: Run) -> None:
    run["embeddings"]["captions"] = run["embeddings"]["captions"][1:]
    with pytest.raises(ValueError, match="the picture of embeddings has lists of different"):
        check_run({"title": "t", "embeddings": run["embeddings"]}, {})
