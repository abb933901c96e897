import dataclasses
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expertree import config as strict
from expertree.degradation.captions import caption
from expertree.degradation.looks import NATURAL, LooksConfig
from expertree.degradation.parts import SCHEMA, make_part, plan_patches
from expertree.degradation.photographs import Photo
from expertree.degradation.recipe import Recipe, mixable
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.synthesis import degrade
from expertree.degradation.table import DegradationConfig
from expertree.errors import ConfigError
from expertree.images.io import decode_u8

SMALL = DegradationConfig(
    patch_px=32,
    num_train=56,
    num_extractor=7,
    num_route=21,
    route_smaller_share=0.0,
    num_val_in=14,
    num_val_out=14,
    num_val_clean=0,
    num_shift=0,
    mixed_fraction=0.25,
    chooser_clean_fraction=0.0,
    looks=NATURAL,
)

NOT_MIXED = {"mixed_fraction": 0.0, "chooser_mixed_fraction": 0.0}


def photographs(num_photos=6):
    photos = [
        Photo(
            name=f"folder/Photo {number}.JPG",
            location="",
            sha256=f"{number:064x}",
            width_px=70,
            height_px=60,
        )
        for number in range(num_photos)
    ]
    parts = ["train", "train", "train", "route", "val", "val"]
    return photos, {p.name: parts[i % len(parts)] for i, p in enumerate(photos)}


def pixels(photo):
    rng = np.random.default_rng(int(photo.sha256, 16))
    return rng.integers(0, 256, (photo.height_px, photo.width_px, 3), dtype=np.uint8)


def plan(config=SMALL, seed=0, num_photos=6):
    photos, parts = photographs(num_photos)
    return [
        part
        for patch_set in config.patch_sets().values()
        for part in plan_patches(
            patch_set, [p for p in photos if parts[p.name] == patch_set.part], seed=seed
        )
    ]


def rows_of(parts):
    return [row for part in parts for row in make_part(part, pixels(part.photo)).to_pylist()]


def test_a_part_has_the_schema_and_its_planned_rows():
    part = plan()[0]
    table = make_part(part, pixels(part.photo))
    assert table.schema.equals(SCHEMA)
    assert table.column("id").to_pylist() == [row.id for row in part.rows]


def test_rows_say_what_they_hold():
    for row in rows_of(plan()):
        recipe = Recipe.from_json(row["recipe"])
        clean, spoiled = decode_u8(row["gt"]), decode_u8(row["lq"])
        assert clean.shape == spoiled.shape == (32, 32, 3)
        assert row["tasks"] == list(recipe.tasks)
        assert row["caption"] == caption(recipe)
        assert (row["kind"] == "single") == (len(recipe.tasks) == 1)
        assert 0 <= row["seed"] < 2**63
        np.testing.assert_array_equal(degrade(clean, recipe), spoiled)


def test_clean_patches_are_cut_from_their_photograph():
    part = plan()[0]
    image = pixels(part.photo)
    windows = np.lib.stride_tricks.sliding_window_view(image, (32, 32, 3))[:, :, 0]
    for row in make_part(part, image).to_pylist():
        assert (windows == decode_u8(row["gt"])).all(axis=(2, 3, 4)).any()


def test_parts_are_the_same_bytes_in_any_order_and_after_pickling():
    parts = plan()
    forwards = [make_part(part, pixels(part.photo)) for part in parts]
    again = pickle.loads(pickle.dumps(parts))
    backwards = [make_part(part, pixels(part.photo)) for part in reversed(again)]
    assert all(a.equals(b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_the_plan_does_not_depend_on_the_order_of_the_photographs():
    photos, _ = photographs()
    patch_set = SMALL.patch_sets()["train"]
    assert plan_patches(patch_set, photos[::-1], seed=0) == plan_patches(patch_set, photos, seed=0)


def test_another_seed_gives_other_rows_with_the_same_ids():
    first, second = plan(seed=0), plan(seed=1)
    assert [[r.id for r in p.rows] for p in first] == [[r.id for r in p.rows] for p in second]
    assert {r.seed for p in first for r in p.rows}.isdisjoint(
        r.seed for p in second for r in p.rows
    )


@settings(max_examples=25)
@given(
    num_train=st.integers(1, 700),
    mixed_fraction=st.floats(0, 1),
    num_photos=st.integers(6, 40),
)
def test_no_photograph_is_on_two_sides_and_counts_are_met(num_train, mixed_fraction, num_photos):
    config = dataclasses.replace(SMALL, num_train=num_train, mixed_fraction=mixed_fraction)
    parts = plan(config, num_photos=num_photos)
    sides = {}
    for part in parts:
        sides.setdefault(part.photo.sha256, set()).add(part.patch_set)
    assert all(
        s <= {"train", "extractor"} or s in ({"route"}, {"val_in", "val_out"})
        for s in sides.values()
    )
    counts = Counter(dict.fromkeys(("train", "extractor", "route", "val_in", "val_out"), 0))
    for part in parts:
        counts[part.patch_set] += len(part.rows)
    assert counts == {"train": num_train, "extractor": 7, "route": 21, "val_in": 14, "val_out": 14}
    ids = [row.id for part in parts for row in part.rows]
    assert len(set(ids)) == len(ids)
    assert len({row.seed for part in parts for row in part.rows}) == len(ids)


def test_ids_are_sortable_and_readable():
    parts = plan()
    ids = [row.id for part in parts if part.patch_set == "train" for row in part.rows]
    assert ids == sorted(ids)
    assert ids[0] == "train/0000-photo-0/00000"


def test_each_task_gets_the_same_count_and_meets_every_photograph():
    config = dataclasses.replace(SMALL, num_train=210, mixed_fraction=0.0)
    seen = Counter(
        (row.tasks[0], part.photo.name)
        for part in plan(config)
        if part.patch_set == "train"
        for row in part.rows
    )
    assert len(seen) == 7 * 3
    assert set(seen.values()) == {10}


def test_rows_are_dealt_to_the_photographs_in_turn():
    config = dataclasses.replace(
        SMALL, num_extractor=61, chooser_mixed_fraction=0.5, chooser_clean_fraction=0.2
    )
    parts = [part for part in plan(config) if part.patch_set == "extractor"]
    dealt = [[], [], []]
    for index in range(61 - 30 - 12):
        turn, task = divmod(index, 7)
        dealt[(turn + task) % 3].append(("single", (DEFAULT_TASKS[task],)))
    for kind, tasks, count in (("mixed", mixable(DEFAULT_TASKS), 30), ("clean", (), 12)):
        for index in range(count):
            dealt[index % 3].append((kind, tasks))
    assert [[(row.kind, row.tasks) for row in part.rows] for part in parts] == dealt


def test_a_plan_of_a_million_rows_is_some_kilobytes_a_thousand():
    photos, _ = photographs(100)
    patch_set = DegradationConfig(num_train=1_000_000).patch_sets()["train"]
    parts = plan_patches(patch_set, photos, seed=0)
    assert sum(part.num_rows for part in parts) == 1_000_000
    assert len(pickle.dumps(parts)) < 2_000_000


def test_the_share_of_mixtures_is_as_asked():
    kinds = Counter(r.kind for part in plan() if part.patch_set == "train" for r in part.rows)
    assert kinds == {"single": 42, "mixed": 14}


def test_only_val_out_and_the_extractor_have_parameters_out_of_distribution():
    config = dataclasses.replace(
        SMALL, tasks=("noise",), mixed_fraction=0.0, chooser_mixed_fraction=0.0
    )
    for row in rows_of(plan(config)):
        sigma = Recipe.from_json(row["recipe"]).parameters["noise"]["sigma"]
        if row["split"] != "extractor":
            assert (sigma >= 35.0) == (row["split"] == "val_out")


def test_a_photograph_with_many_rows_is_several_parts():
    parts = [p for p in plan(dataclasses.replace(SMALL, num_train=2000)) if p.patch_set == "train"]
    assert max(len(part.rows) for part in parts) <= 256
    assert len({part.photo.name for part in parts}) == 3
    assert len(parts) == 9


def test_empty_places_are_avoided():
    part = plan()[0]
    image = np.zeros_like(pixels(part.photo))
    image[:, 35:] = pixels(part.photo)[:, 35:]
    empty = sum(not decode_u8(row["gt"]).any() for row in make_part(part, image).to_pylist())
    assert empty == 0


def test_a_photograph_of_one_colour_still_gives_its_rows():
    part = plan()[0]
    table = make_part(part, np.full_like(pixels(part.photo), 90))
    assert table.num_rows == len(part.rows)


def test_a_photograph_smaller_than_a_patch_is_refused():
    part = plan()[0]
    with pytest.raises(ValueError, match="smaller than a patch of 32 px"):
        make_part(part, pixels(part.photo)[:20])


def test_a_set_without_photographs_is_refused():
    with pytest.raises(ValueError, match="'route' has no photographs"):
        plan_patches(SMALL.patch_sets()["route"], [], seed=0)


def test_points_of_shift_run_from_the_mildest_to_the_severest():
    assert SMALL.shift_sets() == {}
    sets = list(dataclasses.replace(SMALL, num_shift=2).shift_sets().values())
    assert len(sets) == 15
    assert [sets[0].severity, sets[7].severity, sets[-1].severity] == [0.0, 0.5, 1.0]
    assert {(one.part, one.num_patches, one.mixed_fraction) for one in sets} == {("val", 2, 0.5)}
    alone = dataclasses.replace(SMALL, num_shift=2, tasks=("noise", "jpeg"), **NOT_MIXED)
    assert {one.mixed_fraction for one in alone.shift_sets().values()} == {0.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_px": 8}, "patch_px must be at least 16, got 8"),
        ({"num_val_out": 0}, "num_val_out must be at least 1, got 0"),
        ({"num_shift": -1}, "num_shift must be at least 0, got -1"),
        ({"mixed_fraction": 1.5}, r"mixed_fraction must lie in \[0, 1\], got 1.5"),
        (
            {"chooser_mixed_fraction": -1.0},
            r"chooser_mixed_fraction must lie in \[0, 1\], got -1.0",
        ),
        ({"route_smaller_share": 1.1}, r"route_smaller_share must lie in \[0, 1\], got 1.1"),
        ({"tasks": ("noise", "fog")}, "unknown degradation 'fog'; known are low_light"),
        ({"tasks": ("noise", "noise")}, "once each"),
        ({"tasks": ()}, "at least one"),
        ({"tasks": ("noise", "jpeg")}, "can be mixed"),
        (
            {"extractor_tasks": ("motion_blur", "jpeg")},
            r"chooser_mixed_fraction is 0.4, but extractor_tasks \[.*\] has less than 2 that can",
        ),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DegradationConfig(**values)


def test_an_extractor_without_mixtures_may_have_any_tasks():
    config = DegradationConfig(extractor_tasks=("motion_blur", "jpeg"), chooser_mixed_fraction=0.0)
    assert config.patch_sets()["extractor"].tasks == ("motion_blur", "jpeg")


def test_the_configuration_goes_through_plain_data():
    assert strict.load(DegradationConfig, strict.to_dict(SMALL)) == SMALL
    assert DegradationConfig().tasks == DEFAULT_TASKS


def test_choosers_see_clean_pictures_and_experts_do_not():
    config = dataclasses.replace(SMALL, num_route=40, num_val_clean=6, chooser_clean_fraction=0.1)
    clean = Counter(row["split"] for row in rows_of(plan(config)) if not row["tasks"])
    assert clean == {"extractor": 1, "route": 4, "val_clean": 6}
    for row in rows_of(plan(config)):
        if not row["tasks"]:
            assert row["lq"] == row["gt"]
            assert row["caption"] == "no degradation"


def test_routers_see_a_share_of_photographs_made_smaller_and_nobody_else_does():
    config = dataclasses.replace(SMALL, num_route=200, route_smaller_share=0.5)
    usual, changed = rows_of(plan()), rows_of(plan(config))
    of_others = [row for row in changed if row["split"] != "route"]
    assert of_others == [row for row in usual if row["split"] != "route"]
    whole = {photo.name: pixels(photo) for photo in photographs()[0]}
    num_cut = sum(
        is_cut_from(whole[row["photo"]], decode_u8(row["gt"]))
        for row in changed
        if row["split"] == "route"
    )
    assert 80 <= num_cut <= 120


def is_cut_from(whole, patch):
    side = len(patch)
    places = np.lib.stride_tricks.sliding_window_view(whole, (side, side), axis=(0, 1))
    return bool((places == np.moveaxis(patch, 2, 0)).all(axis=(2, 3, 4)).any())


def test_half_of_the_clean_validation_pictures_are_grey():
    config = dataclasses.replace(SMALL, num_val_clean=60)
    rows = [row for row in rows_of(plan(config)) if row["split"] == "val_clean"]
    num_grey = sum(is_grey(decode_u8(row["gt"])) for row in rows)
    assert 20 <= num_grey <= 40


def test_a_look_changes_the_clean_picture_and_not_what_is_wrong():
    looks = dataclasses.replace(NATURAL, grey_share=1.0)
    natural = [row for row in rows_of(plan()) if row["split"] == "train"]
    config = dataclasses.replace(SMALL, looks=looks)
    grey = [row for row in rows_of(plan(config)) if row["split"] == "train"]
    assert [row["recipe"] for row in grey] == [row["recipe"] for row in natural]
    assert all(is_grey(decode_u8(row["gt"])) for row in grey)
    assert not any(is_grey(decode_u8(row["gt"])) for row in natural)


def test_validation_pictures_are_as_they_are():
    config = dataclasses.replace(SMALL, looks=LooksConfig(grey_share=0.85, pale_share=0.0))
    for own, usual in zip(rows_of(plan(config)), rows_of(plan()), strict=True):
        if own["split"].startswith("val"):
            assert own == usual


def test_a_saved_picture_is_made_again_from_its_recipe():
    looks = dataclasses.replace(NATURAL, saved_share=1.0)
    config = dataclasses.replace(SMALL, looks=looks)
    for row in rows_of(plan(config)):
        recipe = Recipe.from_json(row["recipe"])
        is_saved = row["split"] in ("train", "extractor", "route") and "jpeg" not in recipe.tasks
        assert (recipe.saved is not None) == is_saved
        made = degrade(decode_u8(row["gt"]), recipe)
        assert (made == decode_u8(row["lq"])).all()
        assert Recipe.from_json(recipe.to_json()) == recipe


def is_grey(image):
    return (image.max(axis=2) == image.min(axis=2)).all()


def test_rates_are_chosen_on_photographs_that_nothing_is_trained_or_reported_on():
    chosen, usual = SMALL.rates_set(), SMALL.patch_sets()
    assert chosen.parts == ("route",)
    assert not {*usual["train"].parts, *usual["val_in"].parts} & set(chosen.parts)
    assert (chosen.severity, chosen.num_patches) == ("in", SMALL.num_val_in)
    assert chosen.name not in usual | SMALL.select_sets()
    assert dataclasses.replace(chosen, name="val_in", part="val") == usual["val_in"]
