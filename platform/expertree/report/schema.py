"""The data that a run's report is made from: the content of `report.json`.

Every part but the title is optional: a run without a tree of several levels, or one that was
stopped before the evaluation, still has a report.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

DISTRIBUTIONS: Mapping[str, str] = {"in": "in distribution", "out": "out of distribution"}

DISTRIBUTION_NOTES: Mapping[str, str] = {
    "in": "degradations as strong as in training",
    "out": "degradations stronger than any in training",
}

IMAGE_KINDS = ("input", "one_network", "one_network_tree", "routed", "clean")
"""Pictures that an example may have: those of methods by their names, and the clean one."""


class Row(TypedDict, total=False):
    """One method in a table; its name is one of `evaluation.METHODS`.

    Lists run along the table's columns; None means not measured. `harmed` is the share of images
    that are worse than the input by more than 0.1 dB. `quartiles_db` is the mean PSNR over all
    images of the table, in quarters by the quality of the input, the worst first.
    """

    method: str
    psnr_rgb: Sequence[float | None]
    psnr_y: Sequence[float | None]
    ssim: Sequence[float | None]
    harmed: Sequence[float | None]
    quartiles_db: Sequence[float]
    num_samples: int | None
    num_parameters: int | None
    multiply_adds_512: int | None


class Table(TypedDict, total=False):
    """A table of PSNR (dB) and SSIM of methods on degradations; the last column is the average.

    `quartile_bounds_db` is the input's PSNR where one quarter ends and the next one begins.
    """

    distribution: str
    kind: str
    columns: Sequence[str]
    quartile_bounds_db: Sequence[float]
    rows: Sequence[Row]


class TreeNode(TypedDict, total=False):
    """A node of the tree; `expert` is the node whose expert serves it, itself or one above.

    `backbone` names that expert's network, and says if it is an adapter.
    """

    index: int
    level: int
    parent: int | None
    expert: int
    backbone: str
    num_samples: int
    dominant: Sequence[tuple[str, float]]
    gain_over_parent_db: float | None
    share_routed: float | None


class TreeLevel(TypedDict, total=False):
    """A level of the tree: its number of groups, and their silhouette (None where undefined)."""

    level: int
    silhouette: float | None
    num_groups: int


class TreeSummary(TypedDict, total=False):
    """The tree; nodes breadth first, coarse to fine."""

    groups: Sequence[int]
    levels: Sequence[TreeLevel]
    nodes: Sequence[TreeNode]


class Routing(TypedDict, total=False):
    """The shares of each degradation's images that were sent to each leaf and level.

    `as_is` is the share that was left as it is; with it the leaves add up to 1, and the levels too.
    """

    rows: Sequence[str]
    as_is: Sequence[float]
    leaves: Sequence[Sequence[float]]
    levels: Sequence[Sequence[float]]
    share_as_is: float | None
    agreement_with_best_level: float | None
    lost_db: float | None


class ShiftCurves(TypedDict, total=False):
    """Mean levels (0 is the root's) and mean PSNR in dB of each method, along points of shift."""

    point: Sequence[float]
    mean_level: Sequence[float | None]
    best_mean_level: Sequence[float]
    input: Sequence[float]
    one_network: Sequence[float]
    one_network_tree: Sequence[float]
    root: Sequence[float]
    finest_level: Sequence[float]
    routed: Sequence[float]
    best_level: Sequence[float]


class CleanImages(TypedDict):
    """The results on clean images; PSNR is against the input, over the images that were changed."""

    num: int
    left_as_is: float
    least_psnr_db: float | None
    mean_changed_db: float | None


class Curve(TypedDict):
    """Training loss against the number of samples seen."""

    samples: Sequence[float]
    loss: Sequence[float]


class ExpertSummary(TypedDict, total=False):
    """The training of one expert; `index` is None for a network that the tree is compared with.

    `comparison` is then the method that it is, and None for an expert of the tree.
    `start` says in words which weights it started from; `parent` is the node of the expert that
    they came from, or None; `notes` say what happened on the way.
    """

    index: int | None
    comparison: str | None
    label: str
    key: str
    curve: Curve
    seconds: float
    num_samples: int
    backbone: str
    start: str
    parent: int | None
    notes: Sequence[str]


class Span(TypedDict, total=False):
    """One attempt at training an expert, on one lane (a worker's place on the cluster).

    `expert` is its node's index, or its `label` or `key` among the experts.
    """

    expert: str | int
    lane: str | int
    node: str
    start_s: float
    end_s: float
    attempt: int
    outcome: str


class Stage(TypedDict, total=False):
    """One stage of the job; `cached` says that its result was found and not made."""

    name: str
    seconds: float
    cached: bool


class Route(TypedDict, total=False):
    """The router's choice for one image.

    `as_is` says that the image was left as it is; the rest then says which expert would have been
    chosen.
    """

    as_is: bool
    level: int
    leaf: int
    node: int
    confidence: float
    level_probabilities: Sequence[float]
    leaf_probabilities: Sequence[float]


class Example(TypedDict, total=False):
    """One image before and after. The image fields name entries of the report's images."""

    id: str
    task: str
    caption: str
    distribution: str
    input: str
    one_network: str
    one_network_tree: str
    routed: str
    clean: str
    psnr: Mapping[str, float | None]
    route: Route


class Separation(TypedDict):
    """The separation of one degradation's embeddings from all others."""

    label: str
    num_samples: int
    silhouette: float | None
    purity: float


class Embeddings(TypedDict, total=False):
    """Embeddings on a plane; lists run along the points. A mixture's degradation is `mixed`."""

    pca: Sequence[Sequence[float]]
    tsne: Sequence[Sequence[float]]
    degradations: Sequence[str]
    captions: Sequence[str]
    distributions: Sequence[str]
    separation: Sequence[Separation]


class Finetuned(TypedDict):
    """The bundle whose experts were trained further; `said` says which in words."""

    bundle: str
    said: str


class Grown(TypedDict, total=False):
    """The result of growing the tree of a finished build; `said` says it in words.

    `nodes` pairs old and new numbers of nodes, `beside` new nodes and those that they stand beside;
    `earlier` says where the patch sets of the builds before are stored.
    """

    build: str
    said: str
    leaves: Sequence[int]
    nodes: Sequence[tuple[int, int]]
    beside: Sequence[tuple[int, int]]
    earlier: Sequence[Mapping[str, str]]


class Run(TypedDict, total=False):
    """The record of a run; `report.json` is this and nothing else."""

    title: str
    created: str
    commit: str
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    stored: Mapping[str, str]
    cost: Mapping[str, Any]
    machine: Mapping[str, Any]
    summary: Mapping[str, Any]
    tables: Sequence[Table]
    classical: Mapping[str, str]
    clean: CleanImages
    tree: TreeSummary
    grown: Grown
    finetuned: Finetuned
    routing: Mapping[str, Routing]
    shift: Mapping[str, ShiftCurves]
    embeddings: Embeddings
    experts: Sequence[ExpertSummary]
    timeline: Sequence[Span]
    stages: Sequence[Stage]
    examples: Sequence[Example]
    skipped_photographs: Sequence[tuple[str, str]]


def check_run(run: Run, images: Mapping[str, bytes]) -> None:
    """Check that a run does not contradict itself, before anything is drawn from it.

    Args:
        run: The run.
        images: The report's images by name.

    Raises:
        ValueError: If a list has the wrong length, or something that is named does not exist.
    """
    for problem in _problems(run, images):
        raise ValueError(f"report: {problem}")


def _problems(run: Run, images: Mapping[str, bytes]) -> Iterator[str]:
    if not run.get("title"):
        yield "the run has no title"
    for number, table in enumerate(run.get("tables", ())):
        yield from _table_problems(number, table)
    yield from _tree_problems(run.get("tree", {}))
    for name, routing in run.get("routing", {}).items():
        yield from _routing_problems(name, routing)
    for name, curves in run.get("shift", {}).items():
        yield from _shift_problems(name, curves)
    yield from _embedding_problems(run.get("embeddings", {}))
    for example in run.get("examples", ()):
        yield from _example_problems(example, images)


def _table_problems(number: int, table: Table) -> Iterator[str]:
    num_columns = len(table.get("columns", ()))
    for row in table.get("rows", ()):
        for metric in ("psnr_rgb", "psnr_y", "ssim", "harmed"):
            values = cast("Mapping[str, Any]", row).get(metric)
            if values is not None and len(values) != num_columns:
                yield (
                    f"table {number} has {num_columns} columns, but row {row.get('method')!r} has "
                    f"{len(values)} values of {metric}"
                )


def _tree_problems(tree: TreeSummary) -> Iterator[str]:
    known: set[int] = set()
    for node in tree.get("nodes", ()):
        parent = node.get("parent")
        if parent is not None and parent not in known:
            yield f"node {node['index']} has parent {parent}, which does not come before it"
        known.add(node["index"])


def _routing_problems(name: str, routing: Routing) -> Iterator[str]:
    num_rows = len(routing.get("rows", ()))
    for what in ("leaves", "levels"):
        values = cast("Mapping[str, Any]", routing).get(what)
        if values and len(values) != num_rows:
            yield f"routing {name!r} has {num_rows} rows, but {what} has {len(values)}"


def _shift_problems(name: str, curves: ShiftCurves) -> Iterator[str]:
    lengths = {key: len(values) for key, values in cast("Mapping[str, Any]", curves).items()}
    if len(set(lengths.values())) > 1:
        yield f"the curves of shift {name!r} have different lengths: {lengths}"


def _embedding_problems(embeddings: Embeddings) -> Iterator[str]:
    lists = ("pca", "tsne", "degradations", "captions", "distributions")
    lengths = {name: len(cast("Mapping[str, Any]", embeddings).get(name, ())) for name in lists}
    if len(set(lengths.values())) > 1:
        yield f"the picture of embeddings has lists of different lengths: {lengths}"


def _example_problems(example: Example, images: Mapping[str, bytes]) -> Iterator[str]:
    for kind in IMAGE_KINDS:
        name = example.get(kind)
        if name is not None and name not in images:
            yield f"example {example.get('id')!r} names image {name!r}, which was not given"
