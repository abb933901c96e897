"""The charts of embeddings, coloured by degradation and by degree."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.degradation.registry import REGISTRY
from expertree.report import formatting
from expertree.report.figures import Figure
from expertree.report.schema import DISTRIBUTIONS, Embeddings, Run

PROJECTIONS: Mapping[str, str] = {"tsne": "t-SNE", "pca": "principal components"}

MIXED = "mixed"
_MIXED_COLOUR = "--task-mixed"

UNKNOWN = "unknown"
"""The degree of pictures that were not spoiled here: nobody wrote it down."""

SEVERITIES: Mapping[str, str] = {
    "slight": "--level-3",
    "medium": "--level-1",
    "severe": "--level-0",
}
"""The common names of all degradations' degrees, and their colours; the mildest is slight."""

_UNKNOWN_COLOUR = "--level-2"
_HEIGHT_PX = 420


def embedding_figures(run: Run, colours: Mapping[str, str]) -> list[Figure]:
    """Return two charts for each projection, coloured by degradation and by degree.

    Args:
        run: The run.
        colours: CSS variable of each degradation.
    """
    embeddings = run.get("embeddings", {})
    found = []
    for key, title in PROJECTIONS.items():
        points = cast("Sequence[Sequence[float]]", embeddings.get(key, ()))
        if not points:
            continue
        by_task = {name: colours.get(name, _MIXED_COLOUR) for name in [*colours, MIXED]}
        tasks = list(embeddings.get("degradations", ()))
        degrees = [
            severity(task, caption)
            for task, caption in zip(tasks, embeddings.get("captions", ()), strict=True)
        ]
        by_degree = {**SEVERITIES, MIXED: _MIXED_COLOUR, UNKNOWN: _UNKNOWN_COLOUR}
        for what, labels, palette in (
            ("degradation", tasks, by_task),
            ("degree", degrees, by_degree),
        ):
            data = _traces(embeddings, points, labels, palette)
            name = f"Embeddings by {what}, {title}"
            found.append(_figure(f"embeddings-{key}-{what}", name, data))
    return found


def severity(degradation: str, caption: str) -> str:
    """Return how severe a degree is for its degradation: a key of `SEVERITIES`, or another name.

    Args:
        degradation: Name of the degradation, or `MIXED`, which is its own degree.
        caption: The degree, for example `thick haze`; the kind alone (`haze`) is `UNKNOWN`.
    """
    if degradation == MIXED:
        return MIXED
    degrees = REGISTRY[degradation].degrees if degradation in REGISTRY else ()
    degree = caption.split(" ", 1)[0]
    if degree not in degrees:
        return UNKNOWN
    place = degrees.index(degree)
    names = list(SEVERITIES)
    return names[round(place * (len(names) - 1) / (len(degrees) - 1))]


def _traces(
    embeddings: Embeddings,
    points: Sequence[Sequence[float]],
    labels: Sequence[str],
    palette: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return one trace for each label, in the palette's order; hover texts tell the rest."""
    words = [
        f"{caption}<br>{DISTRIBUTIONS.get(place, place)}"
        for caption, place in zip(
            embeddings.get("captions", ()), embeddings.get("distributions", ()), strict=True
        )
    ]
    traces = []
    for name, colour in palette.items():
        rows = [row for row, label in enumerate(labels) if label == name]
        if rows:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": formatting.name(name),
                    "x": [points[row][0] for row in rows],
                    "y": [points[row][1] for row in rows],
                    "text": [words[row] for row in rows],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {"color": colour, "size": 5, "opacity": 0.8},
                }
            )
    return traces


def _figure(key: str, title: str, data: Sequence[dict[str, Any]]) -> Figure:
    bare = {"showticklabels": False, "zeroline": False, "showgrid": False, "ticks": ""}
    layout = {
        "xaxis": bare,
        "yaxis": bare,
        "legend": {"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0},
        "hovermode": "closest",
        "margin": {"t": 8, "r": 8, "b": 8, "l": 8},
    }
    return Figure(key=key, title=title, data=tuple(data), layout=layout, height_px=_HEIGHT_PX)
