"""The study of whole photographs, by the model that ships."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from expertree.config import load
from expertree.errors import ConfigError
from expertree.images.io import encode_png
from expertree.images.metrics import psnr_rgb
from expertree.studies import whole
from expertree.studies.registry import StudyConfig, run_study
from expertree.studies.whole import CLEAN, FAULTS, WholeConfig


def picture(seed: int) -> np.ndarray:
    """A smooth picture of 60 x 72 px with edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:60, 0:72] / 12.0
    waves = [np.sin(rows * a + columns * b) for a, b in rng.uniform(0.2, 1.0, (3, 2))]
    image = 128 + 70 * np.stack(waves, axis=-1)
    image[20:40, 30:50] = rng.integers(0, 256, 3)
    return image.round().clip(0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    for name in ("clean", "pairs/noisy", "pairs/clean", "streaks"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(2):
        clean = picture(number)
        (tmp_path / "clean" / f"{number}.png").write_bytes(encode_png(clean))
        noise = np.random.default_rng(number).normal(0, 20, clean.shape)
        noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
        (tmp_path / "pairs" / "clean" / f"{number}.png").write_bytes(encode_png(clean))
        (tmp_path / "pairs" / "noisy" / f"{number}.png").write_bytes(encode_png(noisy))
    streaks = np.zeros((40, 90, 3), dtype=np.uint8)
    streaks[:, ::9] = 120
    (tmp_path / "streaks" / "one.png").write_bytes(encode_png(streaks))
    return {name: str(tmp_path / name) for name in ("clean", "pairs", "streaks", "out")}


def study(folders: dict[str, str], **section: object) -> StudyConfig:
    whole = {"photographs": folders["clean"], "classical": False} | section
    return load(StudyConfig, {"study": "whole", "output": folders["out"], "whole": whole})


def tables(folders: dict[str, str]) -> list[dict[str, object]]:
    return json.loads((Path(folders["out"]) / "whole.json").read_text())


def test_photographs_and_pairs_are_measured_blind_and_told(folders: dict[str, str]) -> None:
    pairs = {"name": "a camera's", "root": folders["pairs"], "task": "noise"}
    config = study(
        folders,
        pairs=[pairs],
        kinds=["noise, sigma 50", "rain, strength 100", "a camera's", "nothing, grey"],
        rain_streaks=folders["streaks"],
        classical=True,
    )
    said: list[str] = []
    text = run_study(config, said.append)
    spoiled, clean = tables(folders)
    by_name = {row[0]: dict(zip(spoiled["columns"], row, strict=True)) for row in spoiled["rows"]}
    assert set(by_name) == {"noise, sigma 50", "rain, strength 100", "a camera's"}
    noisy = by_name["noise, sigma 50"]
    assert noisy["pictures"] == 2
    assert noisy["gain"] > 3.0
    assert noisy["gain"] == pytest.approx(noisy["routed"] - noisy["input"])
    assert noisy["classical, told"] > noisy["input"]
    assert noisy["told"] is not None
    files = [np.array(picture(number)) for number in range(2)]
    inputs = []
    for number, own in enumerate(files):
        noise = np.random.default_rng(number).normal(0, 20, own.shape)
        inputs.append(psnr_rgb((own + noise).round().clip(0, 255).astype(np.uint8), own))
    assert by_name["a camera's"]["input"] == pytest.approx(np.mean(inputs))
    assert [row[0] for row in clean["rows"]] == ["nothing, grey"]
    assert "non-local means" in text
    assert sorted(said) == sorted(f"{kind}: ..." for kind in config.whole.kinds)


def test_rows_are_made_once(folders: dict[str, str]) -> None:
    # Pairs of rows that nobody wants are not read, and so not missed.
    away = {"name": "elsewhere", "root": folders["pairs"] + "/missing", "task": "noise"}
    config = study(folders, kinds=["JPEG, quality 10"], pairs=[away])
    first = run_study(config, print)
    said: list[str] = []
    assert run_study(config, said.append) == first
    assert said == ["JPEG, quality 10: found"]


def test_rows_are_of_the_files_contents(folders: dict[str, str]) -> None:
    pairs = {"name": "a camera's", "root": folders["pairs"], "task": "noise"}
    config = study(folders, photographs=None, pairs=[pairs])
    first = run_study(config, print)
    (Path(folders["pairs"]) / "noisy" / "0.png").write_bytes(encode_png(picture(7)))
    assert run_study(config, print) != first


def test_a_file_of_many_pairs_is_read_once_to_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("noisy.mat", "clean.mat")]
    for file in files:
        file.write_bytes(file.name.encode())
    blocks = [SimpleNamespace(name=f"{n}", lq=files[0], gt=files[1]) for n in range(5)]
    monkeypatch.setattr(whole, "open_dataset", lambda *_, **__: blocks)
    read: list[Path] = []
    monkeypatch.setattr(whole, "_print_of", lambda file: read.append(file) or file.name)
    pairs = [{"name": name, "root": str(tmp_path)} for name in ("one", "again")]
    config = load(WholeConfig, {"pairs": pairs})
    rows = list(whole._rows_of(config))
    assert read == files
    expected = [[f"{n}", "noisy.mat", "clean.mat"] for n in range(5)]
    assert [row.spec["files"] for row in rows] == [expected] * 2


def test_every_name_is_a_row_of_its_own() -> None:
    names = [fault.name for fault in FAULTS] + list(CLEAN)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kinds": ["nois"]}, "'nois' is none of noise, sigma 5"),
        ({"pairs": [{"root": "/x"}]}, "each needs a name and a root"),
        ({"pairs": [{"root": "/x", "name": "haze, beta 1"}]}, "two rows are called 'haze, beta 1'"),
        ({"pairs": [{"root": "/x", "name": "a"}, {"root": "/y", "name": "a"}]}, "two rows are"),
        ({"photographs": None}, "whole.photographs is not set"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    folders: dict[str, str], section: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_study(study(folders, **section), print)


def test_masks_must_be_there(folders: dict[str, str]) -> None:
    config = study(folders, kinds=["rain, strength 100"], rain_streaks=folders["pairs"] + "/none")
    with pytest.raises(ConfigError, match="has no PNG files"):
        run_study(config, print)
