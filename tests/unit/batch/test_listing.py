"""Which files a batch restores and where each goes, decided before any work."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from expertree.batch.listing import (
    ignores_case,
    list_photographs,
    make_item,
    named_format,
    output_name,
    refuse_collisions,
    refuse_own_input,
)
from expertree.errors import ConfigError


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read here")


def names_in(folder: Path, **options) -> list[str]:
    return [item.name for item in list_photographs(folder, **options).items]


def test_photographs_of_a_folder_are_listed_in_order_and_others_counted(tmp_path: Path) -> None:
    put(tmp_path, "b.PNG", "a.jpeg", "c.tif", "notes.txt", "IMG.GIF", "x.gif", ".hidden.png")
    listing = list_photographs(tmp_path, recursive=False)
    assert [item.name for item in listing.items] == ["a.jpeg", "b.PNG", "c.tif"]
    assert listing.others == {".gif": 2, ".txt": 1}


def test_folders_below_are_looked_into_only_if_asked(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "trip/b.png", "trip/day 2/c.png", ".cache/d.png")
    assert names_in(tmp_path, recursive=False) == ["a.png"]
    assert names_in(tmp_path, recursive=True) == ["a.png", "trip/b.png", "trip/day 2/c.png"]


def test_the_folder_of_restored_ones_is_not_restored_again(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "restored/a.png")
    assert names_in(tmp_path, recursive=True, apart_from=tmp_path / "restored") == ["a.png"]


def test_a_folder_without_photographs_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "a.gif", "below/a.png")
    with pytest.raises(ConfigError, match=r"holds no photograph .*\.gif.*; -r looks into"):
        list_photographs(tmp_path, recursive=False)
    with pytest.raises(ConfigError, match="is no folder"):
        list_photographs(tmp_path / "nothing", recursive=False)


@pytest.mark.parametrize(
    ("name", "suffix", "target", "expected"),
    [
        ("a.png", "", None, "a.png"),
        ("trip/a.JPG", "_restored", None, "trip/a_restored.JPG"),
        ("a.jpeg", "", "jpeg", "a.jpeg"),
        ("a.jpeg", "", "png", "a.png"),
        ("a.b.png", "", "tiff", "a.b.tif"),
    ],
)
def test_a_restored_photograph_keeps_its_name(name, suffix, target, expected) -> None:
    assert output_name(name, suffix, target) == expected


def test_two_photographs_for_one_place_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.jpg")
    assert len(names_in(tmp_path, recursive=False)) == 2
    with pytest.raises(ConfigError, match=r"a\.jpg and a\.png would both be written to a\.webp"):
        list_photographs(tmp_path, recursive=False, target="webp")


def test_a_photograph_is_never_written_over_itself(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    items = list_photographs(tmp_path, recursive=False).items
    with pytest.raises(ConfigError, match=r"a\.png would be written over"):
        refuse_own_input(items, tmp_path, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="would be written over"):
        refuse_own_input(items, tmp_path, tmp_path / "link")
    renamed = list_photographs(tmp_path, recursive=False, suffix="_restored").items
    refuse_own_input(renamed, tmp_path, tmp_path)


def test_an_item_knows_its_file_and_what_it_claims(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PillowImage.new("RGB", (30, 20)).save(stream, format="PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    os.utime(tmp_path / "a.png", ns=(5, 7))
    item = make_item(tmp_path, Path("a.png"))
    assert (item.num_pixels, item.num_bytes, item.mtime_ns) == (600, len(stream.getvalue()), 7)
    put(tmp_path, "b.png")
    assert make_item(tmp_path, Path("b.png")).num_pixels == 26  # by its bytes
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        make_item(tmp_path, Path("c.png"))


def test_every_spelling_of_jpeg_is_a_photograph(tmp_path: Path) -> None:
    put(tmp_path, "a.jfif", "b.JPE", "c.jif", "d.pjpeg")
    assert len(names_in(tmp_path, recursive=False)) == 4


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("x.JPG", "jpeg"),
        ("x.jpe", "jpeg"),
        ("a.b/x.tif", "tiff"),
        ("new", None),
        ("new.v2/", None),
        ("here.v2", None),
    ],
)
def test_an_output_names_a_format_or_a_folder(tmp_path, monkeypatch, output, expected) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.v2").mkdir()
    assert named_format(output, None) == expected


@pytest.mark.parametrize("output", ["x.gif", "x.JXL", "new.v2"])
def test_a_suffix_of_no_format_is_refused_with_what_there_is(output: str) -> None:
    with pytest.raises(ConfigError, match=rf"no format that is written.*png, jpeg.*{output}/ for"):
        named_format(output, None)


def test_another_format_than_the_name_says_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--format png and x\.JPG do not go together"):
        named_format("x.JPG", "png")


@pytest.mark.parametrize(("a", "b"), [("a.jpg", "A.JPG"), ("caf\u00e9.png", "cafe\u0301.png")])
def test_names_that_a_disk_takes_for_one_are_refused_there(tmp_path, a, b) -> None:
    put(tmp_path, a, b)
    items = list_photographs(tmp_path, recursive=False).items
    if len(items) < 2:
        pytest.skip("this disk takes them for one")
    assert not ignores_case(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([a, b])
    refuse_collisions(items)
    with pytest.raises(ConfigError, match="would both be written to"):
        refuse_collisions(items, ignores_case=True)
