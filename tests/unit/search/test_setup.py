"""What the trials of a search have in common, with stages that make nothing."""

from pathlib import Path
from typing import Any

import pytest

from expertree.config import load
from expertree.degradation.paired import TrainingPair
from expertree.degradation.photographs import Photo
from expertree.events import EventLog
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.sources import Material, Source
from expertree.pipeline.stages import Workbench
from expertree.search import setup as making
from expertree.search.settings import SearchConfig, open_space
from expertree.search.setup import make_setup
from expertree.storage import Storage

SPACES = Path(__file__).parents[3] / "search_spaces"


def material(kind: str) -> Material:
    photos = tuple(
        Photo(name=name, location="", sha256=name, width_px=64, height_px=64)
        for name in ("photo", "lq", "gt")
    )
    pair = TrainingPair(name="p", tasks=(kind,), lq=photos[1], gt=photos[2])
    return Material(
        sources=[
            Source(label="", weight=1.0, photos=photos[:1], splits={"photo": "train"}),
            Source(label="pairs", weight=1.0, pairs=(pair,), splits={"p": "train"}),
        ]
    )


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [("raindrop", ("noise", "haze", "raindrop")), ("haze", ("noise", "haze"))],
)
def test_trials_are_judged_on_the_kinds_of_pairs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kinds: tuple[str, ...]
) -> None:
    store = Storage.open(tmp_path / "store")
    config = load(
        SearchConfig,
        {
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "out"),
            "search_space": "paper_table8",
            "experts": {"samples_per_expert": 8},
            "degradation": {"tasks": ["noise", "haze"]},
        },
    )
    made: dict[str, Any] = {
        "make_tables": lambda *_, **__: {"train": store.sub("degrade")},
        "make_extractor": lambda *_: store.sub("extractor"),
        "embed_tables": lambda *_: {"train": store.sub("embed")},
        "score_tables": lambda *given: {one: store.sub("score") for one in given[-1]},
        "cut_tree": lambda *_: None,
        "shard_tree": lambda *_: None,
        "Measured": type("Measured", (), {"like": staticmethod(lambda _: None)}),
    }
    for name, stage in made.items():
        monkeypatch.setattr(making, name, stage)
    bench = Workbench(
        store=store,
        events=EventLog(tmp_path / "events.jsonl"),
        runner=LocalRunner(config.cluster),
        on_stage=lambda *_: None,
    )
    with bench:
        space = open_space("paper_table8", SPACES)
        setup = make_setup(config, space, material(kind), bench, store.sub("notes"))
    assert setup.kinds == kinds
