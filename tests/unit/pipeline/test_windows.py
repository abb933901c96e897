"""Which windows each expert gets, and by which pictures."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from expertree.config import load
from expertree.degradation.photographs import Photo
from expertree.degradation.table import DegradationConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.orchestration.run import run_build
from expertree.pipeline import windows
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material, Source
from expertree.pipeline.windows import choose_window, rows_of_nodes
from expertree.restorer.manifest import read_manifest
from expertree.storage import Storage
from small_builds import SMALL


@pytest.fixture
def tree() -> Tree:
    """Root, two groups, and the two halves of each."""
    rng = np.random.default_rng(0)
    centres = np.array([[-9, -2], [-9, 2], [9, -2], [9, 2]])
    points = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(80, 2))
    config = HierarchyConfig(groups=(1, 2, 4))
    return build_tree(points.astype(np.float32), config, extractor="x")[0]


def test_windows_are_taken_where_they_bring_something() -> None:
    whole = [20.0, 24.0]
    for first, second, wanted in (
        ([21.0, 25.0], [20.8, 24.8], 128),
        ([21.0, 25.0], [20.9, 25.0], 192),
        ([21.0, 25.0], [22.0, 25.0], 192),
        ([20.0, 24.02], [20.0, 23.0], None),
        ([19.0, 24.0], [20.0, 24.0], None),
    ):
        assert choose_window({"whole": whole, "128": first, "192": second}) == wanted


def test_a_node_is_tried_on_pictures_of_all_its_leaves(tree: Tree) -> None:
    leaves = np.repeat(np.arange(4), [30, 3, 0, 5])
    found = rows_of_nodes(tree, leaves, range(7))
    assert len(found[0]) == windows.MOST_PICTURES
    assert {leaves[row] for row in found[0]} >= {0, 3}
    for leaf in range(4):
        own = found[tree.path(leaf)[-1]]
        assert {leaves[row] for row in own} <= {leaf}
        assert len(own) == min(windows.MOST_PICTURES, int((leaves == leaf).sum()))
        assert len(set(own)) == len(own)


def photo(name: str, side_px: int) -> Photo:
    return Photo(name=name, location="", sha256=name, width_px=400, height_px=side_px)


def test_pictures_that_are_large_enough_are_kept_alone() -> None:
    photos = (photo("small", 319), photo("large", 320))
    splits: dict[str, Any] = {"small": "route", "large": "train"}
    source = Source(label="", weight=1.0, photos=photos, splits=splits)
    large = Material(sources=[source]).at_least(320)
    assert [own.name for own in large.photos] == ["large"]
    assert large.has_pictures("route", "train")
    assert not large.has_pictures("route")


def test_a_set_of_none_is_no_set() -> None:
    assert DegradationConfig(num_window=0).window_set() is None
    patch_set = DegradationConfig(patch_px=100).window_set()
    assert patch_set is not None
    assert (patch_set.patch_px, patch_set.parts) == (250, ("route", "train"))


def test_an_expert_without_pictures_has_its_parents(tree: Tree) -> None:
    chosen = {0: 128, 1: None}
    leaf = tree.nodes[1].children[0]
    assert windows._own_or_parents(tree, leaf, chosen) is None
    assert windows._own_or_parents(tree, tree.nodes[2].children[0], chosen) == 128
    assert windows._own_or_parents(tree, leaf, {}) is None


def test_windows_lie_on_the_grid_to_which_patches_are_padded() -> None:
    assert windows.sides_of(128, 8) == (128, 192)
    assert windows.sides_of(100, 8) == (104, 152)


@dataclasses.dataclass
class Past:
    """A finished build, of which its bundle's record is read."""

    bundle: Storage

    def directory(self, name: str) -> Storage:
        assert name == "bundle"
        return self.bundle


def chosen_without_pictures(serving: Any, **given: Any) -> dict[int, int | None]:
    """The windows of a build in which there is nothing to try any on."""
    unused: Any = None
    config: Any = SimpleNamespace(degradation=DegradationConfig(num_window=0))
    given.setdefault("hierarchy", unused)
    return windows.choose_windows(
        config, unused, material=Material(sources=[]), extractor=unused, serving=serving, **given
    )


def test_who_serves_the_node_that_it_served_keeps_its_windows(tmp_path: Path) -> None:
    """Node 1 of the build before was served by the root's expert, and node 3 is its node 2."""
    bundle = Storage.open(tmp_path / "bundle")
    hierarchy: Any = SimpleNamespace(growth=SimpleNamespace(nodes={0: 0, 1: 1, 2: 3}))
    past: Any = Past(bundle)
    assert windows._windows_of(past, hierarchy) == {}
    bundle.commit({"experts": {"0": "a", "1": "a", "2": "b"}, "windows": {"1": 128}})
    wanted = {(0, "a"): None, (1, "a"): 128, (3, "b"): None}
    assert windows._windows_of(past, hierarchy) == wanted
    nafnet, restormer = NAFNetConfig(), SimpleNamespace(name="restormer")
    serving = {
        node: SimpleNamespace(key=key, job=SimpleNamespace(backbone=backbone))
        for node, key, backbone in ((0, "a", nafnet), (1, "a", nafnet), (2, "c", restormer))
    }
    found = chosen_without_pictures(serving, hierarchy=hierarchy, past=past)
    assert found == {0: None, 1: 128, 2: None}


def test_windows_of_a_bundle_go_with_the_expert_that_serves() -> None:
    """All experts went on; nodes 1 and 3 are served by the root's and node 4's own, now."""
    nafnet, restormer = NAFNetConfig(), SimpleNamespace(name="restormer")
    serving = {
        node: SimpleNamespace(key=f"new {own}", node=own, job=SimpleNamespace(backbone=backbone))
        for node, own, backbone in (
            (0, 0, nafnet),
            (1, 0, nafnet),
            (2, 2, nafnet),
            (3, 4, restormer),
            (4, 4, restormer),
        )
    }
    taken: Any = SimpleNamespace(windows={0: None, 1: 96, 2: 128, 3: 64, 4: None}, experts={})
    found = chosen_without_pictures(serving, taken=taken)
    assert found == {0: None, 1: None, 2: 128, 3: None, 4: None}


def test_networks_without_windows_cost_nothing() -> None:
    """No table is made: what is given has no workbench."""
    plan: Any = SimpleNamespace(
        key="e", job=SimpleNamespace(backbone=SimpleNamespace(name="restormer"))
    )
    config: Any = SimpleNamespace(degradation=DegradationConfig(), seed=0)
    unused: Any = None
    material = Material(sources=[Source(label="", weight=1.0, splits={})])
    found = windows.choose_windows(
        config,
        unused,
        material=material,
        extractor=unused,
        hierarchy=unused,
        serving={0: plan, 3: plan},
    )
    assert found == {0: None, 3: None}
    nafnet: Any = SimpleNamespace(key="e", job=SimpleNamespace(backbone=NAFNetConfig()))
    for degradation in (DegradationConfig(), DegradationConfig(num_window=0)):
        # Neither is one of a size that there are photographs of.
        config.degradation = degradation
        found = windows.choose_windows(
            config,
            unused,
            material=material,
            extractor=unused,
            hierarchy=unused,
            serving={0: nafnet},
        )
        assert found == {0: None}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Eight photographs of which half are large enough for windows."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(8):
        side = 96 if number % 2 else 48
        pixels = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.png")
    return folder


def test_a_build_measures_them_and_its_bundle_has_them(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "choose_window", lambda _: 48)  # whatever they bring
    config = load(
        BuildConfig,
        {
            **SMALL,
            "degradation": {**SMALL["degradation"], "num_val_clean": 0, "num_window": 24},
            "experts": {**SMALL["experts"], "comparisons": []},
            "cluster": {"runner": "local"},
            "output": f"{tmp_path}/out",
            "store": f"{tmp_path}/store",
            "photographs": {"source": str(photographs)},
        },
    )
    assert run_build(config) == 0
    manifest = read_manifest(Storage.open(tmp_path / "out" / "bundle"))
    assert {entry.window_px for entry in manifest.experts} == {48}
    results = list((tmp_path / "store" / "window").glob("*/window.json"))
    assert 1 <= len(results) <= 3
    for result in results:
        psnr = json.loads(result.read_text())["psnr_db"]
        assert set(psnr) == {"whole", "32", "48"}
        assert len({len(own) for own in psnr.values()}) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("DONE.json")}
    assert run_build(config) == 0
    assert before == {
        path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("DONE.json")
    }
    less = dataclasses.replace(
        config, degradation=dataclasses.replace(config.degradation, num_window=0)
    )
    assert run_build(less) == 0
    manifest = read_manifest(Storage.open(tmp_path / "out" / "bundle"))
    assert {entry.window_px for entry in manifest.experts} == {None}
