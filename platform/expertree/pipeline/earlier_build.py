"""Opens a finished build, to study or to grow it: its tree, embeddings, experts and scores."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor

from expertree.errors import ArtefactError, ConfigError, StorageError
from expertree.evaluation import Scores
from expertree.hierarchy import Labels, Tree, load_tree
from expertree.pipeline.score import INPUTS
from expertree.pipeline.score_columns import read_measures, read_scores
from expertree.pipeline.stages import key_of, stage_key
from expertree.pipeline.tables import read_embeddings, read_labels, read_names
from expertree.pipeline.tree import assign_here
from expertree.routing import Guide, Router, make_guide, node_table, points_of
from expertree.storage import Storage
from expertree.uris import with_keys_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredSet:
    """A patch set with what routers are trained on: embeddings, and PSNR of experts and inputs.

    Attributes:
        tasks: Degradations of each patch, in order.
        embeddings: float32 [patches, dim], not standardised.
        psnr: PSNR of each node's expert on each patch, in dB.
        inputs: PSNR of each patch as it is, in dB.
        measures: What routers read of each patch beside its embedding; None where the build has not
            measured it.
    """

    tasks: list[tuple[str, ...]]
    embeddings: Float32[np.ndarray, "patches dim"]
    psnr: Float[np.ndarray, "patches nodes"]
    inputs: Float[np.ndarray, " patches"]
    measures: Float32[np.ndarray, "patches measures"] | None = None

    def points(self, tree: Tree, router: Router) -> Float32[Tensor, "patches read"]:
        """Return what a router reads of the patches."""
        measures = self.measures if router.shape.num_measures else None
        return points_of(tree, self.embeddings, measures)

    @property
    def is_mixed(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each patch has several degradations, bool [patches]."""
        return np.array([len(tasks) > 1 for tasks in self.tasks])


class FinishedBuild:
    """The stored results of a finished build, found through its report.

    A report keeps no keys. Those of the URIs that the build was given by hold for what lies in the
    same bucket; anything else is read with the credentials of the environment.

    Attributes:
        tree: Tree of the build.
        report: Content of its `report.json`.
    """

    _given: tuple[str, ...] = ()

    def __init__(self, place: str | None, *, key: str, store: str | None = None) -> None:
        """Open a build.

        Args:
            place: Output folder of the build.
            key: Configuration key that the folder was given by, for error messages.
            store: The store that it is thought to lie in, whose keys then hold for it too.

        Raises:
            ConfigError: If the folder was not given.
            ArtefactError: If there is no finished build in it.
            StorageError: If its store cannot be reached; says where credentials come from.
        """
        if place is None:
            raise ConfigError(f"{key} is not set; give the output folder of a finished build")
        output = Storage.open(place)
        if not output.exists("report.json"):
            raise ArtefactError(f"{output.where()} has no report.json; give a finished build")
        self.report: dict[str, Any] = output.read_json("report.json")
        self._stored: dict[str, str] = self.report["stored"]
        self._given = (place, *([] if store is None else [store]))
        tree = self.directory("tree")
        try:
            self.tree: Tree = load_tree(tree)
        except StorageError as error:
            if not tree.is_remote:
                raise
            raise type(error)(
                f"{error}; {output.where('report.json')} keeps no keys of its store's URI: give "
                "the credentials in the environment, as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            ) from error

    def directory(self, name: str) -> Storage:
        """Return a stored result that the report names, for example `embed/train` or `router`.

        Raises:
            ArtefactError: If the report does not name it; the build is of an older version.
        """
        if name not in self._stored:
            raise ArtefactError(f"the report does not say where '{name}' is stored; build again")
        return self._open(self._stored[name])

    @property
    def store(self) -> Storage:
        """The root of the store that holds the results."""
        return self.directory("tree").above(2)

    @property
    def key(self) -> str:
        """The joined keys of what a study of this build depends on: tree, bundle, embeddings."""
        names = [name for name in sorted(self._stored) if name.startswith("embed/")]
        return "-".join(key_of(self.directory(name)) for name in ("tree", "bundle", *names))

    @property
    def experts(self) -> dict[int, Storage]:
        """The directory of each expert, by node."""
        entries = [entry for entry in self.report["experts"] if entry["index"] is not None]
        return {entry["index"]: self.store.sub("expert", entry["key"]) for entry in entries}

    @property
    def comparisons(self) -> dict[str, Storage]:
        """The directories of the networks that the tree is compared with, by method.

        Raises:
            ArtefactError: If the report does not say which they are; the build is of an older
                version.
        """
        entries = [entry for entry in self.report["experts"] if entry["index"] is None]
        if any("comparison" not in entry for entry in entries):
            raise ArtefactError(
                "the report does not say which networks its tree was compared with; build again"
            )
        return {entry["comparison"]: self.store.sub("expert", entry["key"]) for entry in entries}

    @property
    def patch_set_uris(self) -> list[dict[str, str]]:
        """The URIs of the patch sets that its tree and routers come from, build by build.

        One entry for each build that it was grown from, the first one first, and one for itself.
        """
        own = [f"{stage}/{name}" for name in ("train", "route") for stage in ("degrade", "embed")]
        earlier: list[dict[str, str]] = self.report.get("grown", {}).get("earlier", [])
        return [*earlier, {name: self.directory(name).uri for name in own}]

    def all_sets(self, name: str) -> list[tuple[Storage, Storage]]:
        """Return tables and embeddings of the set `train` or `route`, of each build in turn."""
        return [
            (self._open(one[f"degrade/{name}"]), self._open(one[f"embed/{name}"]))
            for one in self.patch_set_uris
        ]

    def _open(self, uri: str) -> Storage:
        """Open a stored result by its URI in a report."""
        return Storage.open(with_keys_of(uri, self._given))

    def guide(self) -> Guide:
        """Return the guide: what the training patches of each leaf were made with, by name."""
        sets = self.all_sets("train")
        leaves = [assign_here(self.tree, found) for _, found in sets]
        names = Labels.join([read_names(table) for table, _ in sets])
        return make_guide(self.tree, np.concatenate(leaves), names)

    def scored(self, name: str) -> ScoredSet:
        """Return `route`, `val_in` or `val_out` with the scores of its inputs and the experts.

        Raises:
            ArtefactError: If scores are not in the store.
        """
        measures = f"measures/{name}"
        return self.scored_at(
            self.directory(f"degrade/{name}"),
            self.directory(f"embed/{name}"),
            self.directory(measures) if measures in self._stored else None,
        )

    def scored_at(
        self, table: Storage, embeddings: Storage, measures: Storage | None = None
    ) -> ScoredSet:
        """Return any patch set whose scores are stored, given its table, embeddings and measures.

        Raises:
            ArtefactError: If scores are not in the store.
        """
        columns = {node: self._scores(key_of(e), table) for node, e in self.experts.items()}
        return ScoredSet(
            tasks=list(read_labels(table)),
            embeddings=read_embeddings(embeddings)[1],
            psnr=node_table({node: s.psnr_rgb for node, s in columns.items()}, self.tree),
            inputs=self._scores(INPUTS, table).psnr_rgb,
            measures=None if measures is None else read_measures([measures]),
        )

    def _scores(self, expert: str, table: Storage) -> Scores:
        spec = {"expert": expert, "table": key_of(table)}
        found = self.store.sub("score", stage_key("score", spec))
        if not found.is_done():
            raise ArtefactError(
                f"{_named(expert)} no scores on {table.where()} in the store; build again"
            )
        return read_scores(found)


def _named(expert: str) -> str:
    return "the inputs have" if expert == INPUTS else f"expert {expert} has"
