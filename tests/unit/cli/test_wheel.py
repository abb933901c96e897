"""The wheel: what is in it, and that it works where no clone is, and as the image has it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expertree.images.io import decode_u8, encode_png

ROOT = Path(__file__).parents[3]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")

pytestmark = pytest.mark.timeout(600)


def run(
    *command: str | Path,
    cwd: Path,
    fails_with: int = 0,
    limit_s: float = 300,
    home: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of the clone."""
    apart = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    environment = {name: value for name, value in os.environ.items() if name not in apart}
    if home is not None:
        environment["HOME"] = str(home)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert done.returncode == fails_with, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git has: setuptools puts what earlier builds left into wheels."""
    folder = tmp_path_factory.mktemp("wheel")
    listing = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listing.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "clone" / name, follow_symlinks=False)
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    run(*PIP, "wheel", *options, folder / "clone", cwd=folder)
    (found,) = folder.glob("expertree-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel; the rest is borrowed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=scheme))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # Folders in a .pth have their own .pth files ignored: an editable install is not borrowed.
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in sorted(borrowed)))
    programs = Path(sysconfig.get_path("scripts", "venv", vars=scheme))
    options = ("--no-deps", "--no-index", "--no-compile")
    run(*PIP, "--python", programs / "python", "install", *options, wheel, cwd=folder)
    where = run(programs / "python", "-c", "import expertree as e; print(e.__file__)", cwd=folder)
    assert Path(where.stdout.strip()).is_relative_to(own)
    return programs


def test_the_wheel_has_what_the_clone_has_beside_code(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "platform" / "expertree"
    spaces = {f"expertree/search/spaces/{p.name}" for p in (ROOT / "search_spaces").glob("*.yaml")}
    listing = run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=package
    )
    files = (name for name in listing.stdout.split("\0") if name and (package / name).is_file())
    missing = {f"expertree/{name}" for name in files} - names
    assert missing == set()
    assert spaces <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"expertree"}


def test_help_lists_the_verbs(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "expertree", "--help", cwd=tmp_path)
    assert "\n  build " in said.stdout
    said = run(installed / "expertree", "bild", cwd=tmp_path, fails_with=2)
    assert said.stdout == ""
    assert "did you mean 'build'?" in said.stderr


@pytest.mark.slow
def test_a_picture_is_restored(installed: Path, bundle_path: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    (tmp_path / "picture.png").write_bytes(encode_png(image))
    run(
        *(installed / "expertree", "restore", "--bundle", bundle_path, "--device", "cpu"),
        *("-i", "picture.png", "-o", "restored.png"),
        cwd=tmp_path,
    )
    restored = decode_u8((tmp_path / "restored.png").read_bytes())
    assert restored.shape == image.shape
    assert not np.array_equal(restored, image)
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png", "restored.png"}


@pytest.mark.slow
def test_the_demo_is_planned(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "expertree", "build", "experiment=demo", "--dry-run", cwd=tmp_path)
    assert "runs/demo" in said.stdout
    assert not {"wandb", "outputs", "multirun"} & {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_a_search_finds_the_spaces_that_have_names(installed: Path, tmp_path: Path) -> None:
    said = run(
        *(installed / "expertree", "search", "search_space=granulartiy", "--dry-run"),
        cwd=tmp_path,
        fails_with=2,
    )
    assert said.stdout == ""
    spaces = sorted(path.stem for path in (ROOT / "search_spaces").glob("*.yaml"))
    assert f"none of {', '.join(spaces)};" in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_dashboard_leaves_nothing_behind(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "expertree", "dashboard", "--dry-run", cwd=tmp_path)
    assert "Trees and what they reach" in said.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def locked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment made by the steps of `serve/Dockerfile`, whose package nobody may write."""
    folder = tmp_path_factory.mktemp("locked")
    venv.create(folder, symlinks=True)
    uv, python = Path(sys.executable).parent / "uv", folder / "bin" / "python"
    constraint = ("--constraint", ROOT / "requirements.lock")
    run(uv, "pip", "install", "--python", python, *constraint, wheel, cwd=folder, limit_s=1800)
    # Not the other packages: their files may be links to those in uv's cache.
    (package,) = folder.glob("lib/*/site-packages/expertree")
    run("chmod", "-R", "a-w", package, cwd=folder)
    yield folder / "bin"
    run("chmod", "-R", "u+w", package, cwd=folder)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_image_without_docker(locked: Path, bundle_path: Path, tmp_path: Path) -> None:
    """As a user without privileges in a home of his own, with what the lock file fixes alone."""
    # Root may write what is read-only; in a user namespace it is somebody else, who may not.
    apart = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if os.getuid() == 0 else ()
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    (tmp_path / "picture.png").write_bytes(encode_png(image))

    def as_user(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(*apart, *command, cwd=tmp_path, home=tmp_path, **options)

    assert "\n  build " in as_user(locked / "expertree", "--help").stdout
    writing = "import expertree; open(expertree.__file__, 'a')"
    denied = as_user(locked / "python", "-c", writing, fails_with=1)
    assert "PermissionError" in denied.stderr
    as_user(
        *(locked / "expertree", "restore", "--bundle", bundle_path, "--device", "cpu"),
        *("-i", "picture.png", "-o", "restored.png"),
    )
    restored = decode_u8((tmp_path / "restored.png").read_bytes())
    assert restored.shape == image.shape
    assert not np.array_equal(restored, image)
    absent = "import importlib.util as u; print(any(map(u.find_spec, ['pytest', 'mypy', 'ruff'])))"
    assert as_user(locked / "python", "-c", absent).stdout.strip() == "False"
