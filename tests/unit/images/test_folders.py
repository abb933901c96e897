"""Folders as people and their machines leave them: links, pipes, thumbnails, closed doors."""

import os
from pathlib import Path

import pytest

from expertree.images.folders import FolderFiles, find_files


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder: Path, found: FolderFiles) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found.files]


def test_what_machines_keep_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "._a.jpg", ".thumbnails/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg")
    put(tmp_path, "trip/@eaDir/b.jpg", "trip/b.jpg", "#recycle/c.jpg", "__MACOSX/d.jpg")
    assert names(tmp_path, find_files(tmp_path)) == ["a.jpg", "trip/b.jpg"]


def test_links_to_folders_are_followed_but_never_round_and_round(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/sub/b.jpg", "album/c.jpg")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "album")
    (tmp_path / "photos/sub/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/itself").symlink_to(tmp_path / "photos/itself")
    (tmp_path / "album/back").symlink_to(tmp_path / "photos")
    found = find_files(tmp_path / "photos")
    assert names(tmp_path / "photos", found) == ["a.jpg", "itself", "linked/c.jpg", "sub/b.jpg"]
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert len(find_files(tmp_path / "link").files) == 4


def test_a_folder_is_avoided_however_one_comes_to_it(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "out/a.jpg")
    (tmp_path / "again").symlink_to(tmp_path / "out")
    found = find_files(tmp_path, apart_from=tmp_path / "out")
    assert names(tmp_path, found) == ["a.jpg"]


def test_pipes_are_counted_and_not_files(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "p.png")
    found = find_files(tmp_path)
    assert (names(tmp_path, found), found.num_odd) == (["a.png"], 1)


def test_a_folder_that_cannot_be_looked_into_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png", "closed/b.png", "open/c.png")
    real = os.scandir

    def scandir(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_files(tmp_path)
    assert names(tmp_path, found) == ["a.png", "open/c.png"]
    assert found.unreadable == ((tmp_path / "closed", "Permission denied"),)
