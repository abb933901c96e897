"""A compact bundle is half as large, opens as any other, and restores the same to a hair."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from expertree.cli.export import main
from expertree.errors import ArtefactError
from expertree.restorer import Restorer, open_bundle
from expertree.restorer.compact import write_compact
from expertree.routing import Wish
from expertree.storage import Storage


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def psnr(one: np.ndarray, other: np.ndarray) -> float:  # type: ignore[type-arg]
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.mark.parametrize("kind", ["bundle_path", "adapter_bundle_path"])
def test_every_expert_restores_as_before(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    path = request.getfixturevalue(kind)
    manifest = write_compact(open_bundle(Storage.open(path)), Storage.open(tmp_path))
    before, after = Restorer.load(path), Restorer.load(tmp_path)
    assert after.bundle.manifest == manifest
    assert size_of(tmp_path) < 0.7 * size_of(path)
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for node in before.tree.experts():
        wish = Wish(expert=node)
        one, other = before.restore(image, wish).image, after.restore(image, wish).image
        assert psnr(one, other) > 50
    assert after.route(image).expert == before.route(image).expert


def test_the_command_writes_it(bundle_path: Path, tmp_path: Path) -> None:
    assert main([str(bundle_path), "-o", str(tmp_path), "--to", "bundle"]) == 0
    assert open_bundle(Storage.open(tmp_path)).manifest.groups
    again = write_compact(open_bundle(Storage.open(tmp_path)), Storage.open(tmp_path / "twice"))
    assert again == open_bundle(Storage.open(tmp_path)).manifest


def test_one_expert_alone_is_no_bundle(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(bundle_path), "-o", str(tmp_path), "--to", "bundle", "--expert", "0"]
    assert main(given) == 2
    assert "--expert" in capsys.readouterr().err


@pytest.fixture
def own_bundle(bundle_path: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_path, tmp_path / "own")


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["own", "link", "own/experts/.."])
def test_a_bundle_is_never_written_over_itself(
    own_bundle: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(own_bundle)
    before = files_of(own_bundle)
    assert main([str(own_bundle), "-o", str(tmp_path / name), "--to", "bundle"]) == 2
    assert "is the bundle itself" in capsys.readouterr().err
    assert files_of(own_bundle) == before


@pytest.mark.parametrize("is_gone", [True, False])
def test_an_older_bundle_stays_while_the_new_one_cannot_be_read(
    own_bundle: Path, bundle_path: Path, tmp_path: Path, is_gone: bool
) -> None:
    target = shutil.copytree(bundle_path, tmp_path / "older")
    bundle = open_bundle(Storage.open(own_bundle))
    weights = own_bundle / bundle.manifest.experts[-1].files[1]
    if is_gone:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    before = files_of(target)
    with pytest.raises(ArtefactError, match=weights.name):
        write_compact(bundle, Storage.open(target))
    assert files_of(target) == before
