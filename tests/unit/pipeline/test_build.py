"""What the results of a build are stored under."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from expertree.config import load
from expertree.degradation.table import CLEAN_SET, DegradationConfig
from expertree.errors import ConfigError
from expertree.images.io import encode_png
from expertree.pipeline.build import _given_to_routers, _validation_sets, _wanted_scores, prepare
from expertree.pipeline.patch_sets import table_specs
from expertree.pipeline.score import Measured
from expertree.pipeline.settings import BuildConfig
from expertree.storage import Storage


def save(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (130, 140, 3), dtype=np.uint8)
    (folder / name).write_bytes(encode_png(pixels))


def specs(folder: Path, **maps: object) -> dict[str, dict[str, object]]:
    places = {"store": str(folder / "store"), "output": str(folder / "out")}
    photographs = {"source": str(folder / "photos"), "maps": maps}
    config = load(BuildConfig, places | {"photographs": photographs})
    return table_specs(config.degradation.patch_sets(), prepare(config), seed=config.seed)


def test_tables_are_stored_by_what_their_maps_hold_not_where_they_are(tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / "photos", f"{seed}.png", seed)
    for folder, seed in (("one", 7), ("same", 7), ("other", 8)):
        save(tmp_path / folder, "mask.png", seed)
    procedural = specs(tmp_path)
    one, same, other = (specs(tmp_path, rain=str(tmp_path / f)) for f in ("one", "same", "other"))
    for name in ("train", "route", "val_in", "val_out"):
        assert set(procedural[name]) == {"patch_set", "photographs", "seed"}
        assert one[name] == same[name] == procedural[name] | {"maps": one[name]["maps"]}
        assert one[name] != other[name]


def test_a_depth_map_concerns_the_tables_of_its_photograph_alone(tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / "photos", f"{seed}.png", seed)
        save(tmp_path / "depth", f"{seed}.png", seed)
    before = specs(tmp_path, depth={"folder": str(tmp_path / "depth")})
    seen = before["train"]["photographs"]
    (name, _), *_ = (photo for photo in before["route"]["photographs"] if photo not in seen)
    save(tmp_path / "depth", name, 9)
    after = specs(tmp_path, depth={"folder": str(tmp_path / "depth")})
    assert {split for split in before if before[split] != after[split]} == {"route"}


def test_routers_see_all_photographs_but_those_of_validation(tmp_path: Path) -> None:
    for seed in range(6):
        save(tmp_path / "photos", f"{seed}.png", seed)
    names = {
        split: {name for name, _ in spec["photographs"]} for split, spec in specs(tmp_path).items()
    }
    assert names["train"] < names["route"]
    assert not names["route"] & names["val_in"]
    assert len(names["route"] | names["val_in"]) == 6


def test_the_routers_table_says_which_middle_is_scored(tmp_path: Path) -> None:
    save(tmp_path / "photos", "0.png", 0)
    save(tmp_path / "photos", "1.png", 1)
    save(tmp_path / "photos", "2.png", 2)
    patch_sets = {name: spec["patch_set"] for name, spec in specs(tmp_path).items()}
    assert patch_sets["route"]["scored_px"] == 64
    assert not any("scored_px" in own for name, own in patch_sets.items() if name != "route")
    small = DegradationConfig(patch_px=48).patch_sets()["route"]
    assert small.scored_px is None
    with pytest.raises(ConfigError, match="route_scored_px must be at least 16, got 8"):
        DegradationConfig(route_scored_px=8)


def test_clean_images_are_validated_on_where_there_are_some(tmp_path: Path) -> None:
    store = Storage.open(tmp_path)
    config = load(BuildConfig, {"degradation": {"num_shift": 0}})
    sets = {name: store.sub(name) for name in ("val_in", "val_out")}
    assert _validation_sets(config, sets) == ["val_in", "val_out"]
    more = sets | {CLEAN_SET: store.sub(CLEAN_SET)}
    assert _validation_sets(config, more) == ["val_in", "val_out", "val_clean"]


def test_routers_of_a_grown_tree_are_trained_on_what_came_before_too(tmp_path: Path) -> None:
    store = Storage.open(tmp_path / "store")
    old = [(store.sub("degrade", name), store.sub("embed", name)) for name in ("first", "second")]
    past = SimpleNamespace(all_sets=lambda name: old if name == "route" else [])
    sets = {name: store.sub("new", name) for name in ("train", "route", "val_in", "val_out")}
    plans = [SimpleNamespace(node=node, key=f"key-{node}", result=store) for node in (0, 1, None)]
    validation = ["val_in", "val_out", "shift-1.0000"]
    alone, grown = (_given_to_routers(sets, sets, one) for one in (None, past))
    assert list(alone.tables) == ["route"]
    assert list(grown.embeddings.values()) == [sets["route"], old[0][1], old[1][1]]
    unmeasured, _ = _wanted_scores(plans, grown, validation, {}, None)
    assert set(unmeasured) == {"input", "classical", "key-0", "key-1", "key-None"}
    experts, wanted = _wanted_scores(
        plans, grown, validation, {}, Measured(view="resize", side_px=32)
    )
    assert set(experts) == {*unmeasured, "measures"}
    of_one = {name for key, name in wanted if key == "key-1"}
    seen_by_all = {"val_in", "val_out", "shift-1.0000"}
    assert of_one == seen_by_all | {"route", "route, earlier 0", "route, earlier 1"}
    assert {name for key, name in wanted if key == "key-None"} == seen_by_all
    of_measures = {name for key, name in wanted if key == "measures"}
    assert of_measures == seen_by_all | {"route", "route, earlier 0", "route, earlier 1"}
    again = SimpleNamespace(all_sets=lambda name: [(sets[name], sets[name])])
    assert list(_given_to_routers(sets, sets, again).tables) == ["route"]
