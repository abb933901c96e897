import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from expertree.errors import ArtefactError
from expertree.hierarchy import Dendrogram, Node, Tree, load_tree, save_tree
from expertree.storage import Storage


def make_tree(**changes) -> Tree:
    """Groups 1, 2, 3: the first group of level 1 is cut in two, the second is not cut."""
    rng = np.random.default_rng(0)
    parts = {
        "groups": (1, 2, 3),
        "metric": "l2",
        "extractor": "abc",
        "nodes": (
            Node(index=0, level=0, parent=None, children=(1, 2), leaves=(0, 1, 2), num_samples=9),
            Node(index=1, level=1, parent=0, children=(3, 4), leaves=(0, 1), num_samples=7),
            Node(index=2, level=1, parent=0, children=(5,), leaves=(2,), num_samples=2),
            Node(index=3, level=2, parent=1, children=(), leaves=(0,), num_samples=4),
            Node(index=4, level=2, parent=1, children=(), leaves=(1,), num_samples=3),
            Node(index=5, level=2, parent=2, children=(), leaves=(2,), num_samples=2),
        ),
        "centroids": rng.normal(size=(6, 4)).astype(np.float32),
        "mean": np.zeros(4, np.float32),
        "std": np.ones(4, np.float32),
    }
    return Tree(**{**parts, **changes})


def change_node(place: int, **changes) -> tuple[Node, ...]:
    nodes = list(make_tree().nodes)
    nodes[place] = dataclasses.replace(nodes[place], **changes)
    return tuple(nodes)


@pytest.fixture
def saved(tmp_path) -> Storage:
    directory = Storage.open(tmp_path)
    save_tree(make_tree(), directory)
    return directory


def rewrite_header(directory: Storage, **changes) -> None:
    directory.write_json("tree.json", {**directory.read_json("tree.json"), **changes})


def rewrite_arrays(directory: Storage, **changes) -> None:
    arrays = safetensors.numpy.load(directory.read_bytes("tree.safetensors"))
    directory.write_bytes("tree.safetensors", safetensors.numpy.save({**arrays, **changes}))


def test_path_runs_from_the_root_to_the_leaf():
    tree = make_tree()
    assert [tree.path(leaf) for leaf in range(3)] == [(0, 1, 3), (0, 1, 4), (0, 2, 5)]
    assert [tree.node_at(2, level) for level in range(3)] == [0, 2, 5]


def test_a_chain_of_equal_groups_has_one_expert_named_by_its_coarsest_node():
    tree = make_tree()
    assert tree.experts() == (0, 1, 2, 3, 4)
    assert tree.expert_of(5) == 2
    assert tree.levels_of_expert(2) == (1, 2)
    assert tree.levels_of_expert(3) == (2,)


def test_parent_expert_skips_the_nodes_of_a_chain():
    tree = make_tree()
    assert [tree.parent_expert(e) for e in tree.experts()] == [None, 0, 0, 1, 1]


def test_nodes_of_level_and_leaf_centroids_follow_the_node_order():
    tree = make_tree()
    assert [node.index for node in tree.nodes_of_level(1)] == [1, 2]
    np.testing.assert_array_equal(tree.leaf_centroids, tree.centroids[3:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.path(3), "leaf 3 does not exist; the tree has leaves 0 to 2"),
        (lambda t: t.node_at(0, 3), "level 3 does not exist; the tree has levels 0 to 2"),
        (lambda t: t.levels_of_expert(5), "node 5 has no expert of its own"),
        (lambda t: t.standardise(np.zeros((2, 5))), r"embeddings \[samples, 4\], got \[2, 5\]"),
    ],
)
def test_a_wrong_question_is_answered_with_what_exists(call, message):
    with pytest.raises(ValueError, match=message):
        call(make_tree())


def test_check_experts_names_missing_and_left_over_experts():
    make_tree().check_experts([0, 1, 2, 3, 4])
    with pytest.raises(ArtefactError, match=r"missing \[4\], left over \[5\]"):
        make_tree().check_experts([0, 1, 2, 3, 5])


def test_arrays_cannot_be_changed_behind_the_trees_back():
    with pytest.raises(ValueError, match="read-only"):
        make_tree().centroids[0, 0] = 1.0


def test_a_saved_tree_loads_equal_and_saves_to_the_same_bytes(saved, tmp_path):
    tree, loaded = make_tree(), load_tree(saved)
    for name in ("groups", "metric", "extractor", "nodes"):
        assert getattr(loaded, name) == getattr(tree, name)
    for name in ("centroids", "mean", "std"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(tree, name))
    again = Storage.open(tmp_path / "again")
    save_tree(loaded, again)
    for name in ("tree.json", "tree.safetensors"):
        assert again.read_bytes(name) == saved.read_bytes(name)


def test_a_table_of_22_rows_with_23_nodes_does_not_load(tmp_path):
    leaves = tuple(range(22))
    nodes = (
        Node(index=0, level=0, parent=None, children=tuple(range(1, 23)), leaves=leaves,
             num_samples=22),
        *(Node(index=i + 1, level=1, parent=0, children=(), leaves=(i,), num_samples=1)
          for i in leaves),
    )  # fmt: skip
    whole = make_tree(groups=(1, 22), nodes=nodes, centroids=np.zeros((23, 4), np.float32))
    directory = Storage.open(tmp_path)
    save_tree(whole, directory)
    rewrite_arrays(directory, centroids=np.zeros((22, 4), np.float32))
    with pytest.raises(ArtefactError, match=r"centroids is float32 \[22, 4\].*23 nodes"):
        load_tree(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, r"format version 3, this program reads \[1, 2\]"),
        ({"metric": "manhattan"}, "'metric' = 'manhattan'"),
        ({"groups": [1, 2, 4]}, r"groups \[1, 2, 4\] make 7 nodes, got 6"),
        ({"groups": [1, 3, 2]}, "must start with 1 and grow"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_header_does_not_load(saved, changes, message):
    rewrite_header(saved, **changes)
    with pytest.raises(ArtefactError, match=message):
        load_tree(saved)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (change_node(4, leaves=(0,)), r"node 1 lists leaves \[0, 1\], but below it are \[0, 0\]"),
        (change_node(0, leaves=(0, 1)), r"node 0 lists leaves \[0, 1\]"),
        (change_node(5, parent=1), r"node 1 lists children \[3, 4\], but \[3, 4, 5\] name it"),
        (change_node(3, parent=0), "node 0 lists children"),
        (change_node(2, parent=None), "node 0 lists children"),
        (change_node(2, children=()), r"node 2 lists children \[\], but \[5\]"),
        (change_node(3, num_samples=5), "node 1 counts 7 samples, its children 8"),
        (change_node(3, index=9), "node 3 says it is node 9 of level 2"),
        (change_node(3, level=1), "node 3 says it is node 3 of level 1, expected level 2"),
    ],
)
def test_nodes_that_are_not_one_tree_do_not_load(saved, nodes, message):
    rewrite_header(saved, nodes=[dataclasses.asdict(node) for node in nodes])
    with pytest.raises(ArtefactError, match=message):
        load_tree(saved)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"centroids": np.full((6, 4), np.nan, np.float32)}, r"centroids\[0, 0\] is nan"),
        ({"centroids": np.zeros((6, 5), np.float32)}, r"centroids is float32 \[6, 5\]"),
        ({"mean": np.zeros(4, np.float64)}, r"mean is float64 \[4\]"),
        ({"std": np.zeros(4, np.float32)}, "std must be positive"),
        (
            {"extra": np.zeros(1, np.float32)},
            r"holds .*extra.*, expected \['centroids', 'mean', 'std'\]",
        ),
    ],
)
def test_wrong_arrays_do_not_load(saved, arrays, message):
    rewrite_arrays(saved, **arrays)
    with pytest.raises(ArtefactError, match=message):
        load_tree(saved)


def test_a_damaged_or_missing_file_is_an_artefact_error(saved):
    saved.write_bytes("tree.safetensors", b"not safetensors")
    with pytest.raises(ArtefactError, match=r"tree\.safetensors is damaged"):
        load_tree(saved)
    saved.write_bytes("tree.json", json.dumps([1]).encode())
    with pytest.raises(ArtefactError, match="format version None"):
        load_tree(saved)
    saved.delete("tree.json")
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_tree(saved)


def test_a_tree_of_the_first_format_loads(saved):
    header = saved.read_json("tree.json")
    del header["splits"]
    saved.write_json("tree.json", {**header, "version": 1})
    assert load_tree(saved).nodes == make_tree().nodes


def make_splits(*halves: tuple[int, int], dim: int = 4) -> Dendrogram:
    return Dendrogram(halves=halves, centroids=np.ones((len(halves), 2, dim), np.float32))


def test_splits_are_saved_with_the_tree(tmp_path):
    tree = make_tree(dendrogram=make_splits((4, 2), (0, 1)))
    save_tree(tree, Storage.open(tmp_path))
    loaded = load_tree(Storage.open(tmp_path)).dendrogram
    assert loaded.halves == tree.dendrogram.halves
    np.testing.assert_array_equal(loaded.centroids, tree.dendrogram.centroids)
    with pytest.raises(ValueError, match="read-only"):
        loaded.centroids[0] = 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_splits((4, 2), (0, 0)),
            r"lead to \[0, 0, 2, 4\]; 2 splits .* \[0, 1, 2, 4\]",
        ),
        (lambda: make_splits((0, 1), (4, 2)), r"lead to \[0, 1, 2, 4\]|does not come after"),
        (lambda: make_tree(dendrogram=make_splits((0, 1))), "lead to 2 leaves .* the tree has 3"),
        (lambda: make_tree(dendrogram=make_splits((4, 2), (0, 1), dim=5)), "centroids of 5"),
        (
            lambda: make_tree(dendrogram=make_splits((4, 1), (0, 2))),
            r"node 1 has leaves \[0, 1\], which no split leads to",
        ),
        (
            lambda: Dendrogram(halves=((0, 1),), centroids=np.full((1, 2, 4), np.nan, np.float32)),
            "not finite",
        ),
        (
            lambda: Dendrogram(halves=((0, 1),), centroids=np.ones((2, 2, 4), np.float32)),
            r"1 splits are float32 \[1, 2, dim\], got float32 \[2, 2, 4\]",
        ),
    ],
)
def test_splits_that_are_not_those_of_the_tree_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
