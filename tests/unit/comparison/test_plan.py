"""What the trainings of a comparison are planned on."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from expertree.comparison import plan
from expertree.comparison.methods import METHODS
from expertree.comparison.plan import make_common, plan_search, plan_timed, plan_training
from expertree.comparison.run import REPORTED
from expertree.comparison.settings import CompareConfig
from expertree.config import load
from expertree.degradation.table import PatchSet


class TablesError(Exception):
    """Raised in place of making patch sets."""

    def __init__(self, sets: Mapping[str, PatchSet]) -> None:
        super().__init__()
        self.sets = sets


@pytest.mark.parametrize("rates", [(), (0.5, 1.0)])
def test_rates_are_not_chosen_on_photographs_that_a_table_reports(
    monkeypatch: pytest.MonkeyPatch, rates: tuple[float, ...]
) -> None:
    def make_tables(
        _bench: Any, sets: Mapping[str, PatchSet], _material: Any, *, seed: int
    ) -> None:
        del seed
        raise TablesError(sets)

    monkeypatch.setattr(plan, "make_tables", make_tables)
    with pytest.raises(TablesError) as raised:
        make_common(load(CompareConfig, {"rates": rates}), None, None)
    sets = raised.value.sets
    assert {"train", "extractor", "route", *REPORTED} <= set(sets)
    chosen_by = [own for name, own in sets.items() if name == plan.RATES]
    assert len(chosen_by) == bool(rates)
    for own in chosen_by:
        assert not any({*own.parts} & {*sets[name].parts} for name in ("train", *REPORTED))


@pytest.mark.parametrize(("share", "warmup"), [(0.125, 25), (0.5, 100)])
def test_a_search_for_rates_warms_up_over_its_share_of_the_samples(
    monkeypatch: pytest.MonkeyPatch, share: float, warmup: int
) -> None:
    monkeypatch.setattr(plan, "matched", lambda *_, share: (round(4800 * share),))
    monkeypatch.setattr(plan, "_plans", lambda *_: [])
    config = load(CompareConfig, {"samples": 4800, "rates": [0.5, 1.0], "rates_share": share})
    common = SimpleNamespace(hierarchy_of=lambda _: SimpleNamespace(tree=None))
    method = METHODS["sler_ir"]
    searched = plan_search(config, None, common, method, None)
    assert [one.config.experts.recipe.warmup_samples for one in searched] == [warmup] * 2
    whole = plan_training(config, None, common, method, None, seed=0)
    assert whole.config.experts.recipe == config.experts.recipe


@pytest.mark.parametrize(("later", "timed"), [(None, ["a"]), ("child", ["b", "c"])])
def test_a_child_is_timed_after_what_it_starts_from(
    monkeypatch: pytest.MonkeyPatch, later: Any, timed: list[str]
) -> None:
    parents = {"a": None, "b": None, "c": "b", "d": "c"}
    plans = [SimpleNamespace(key=key, parent=parent) for key, parent in parents.items()]
    monkeypatch.setattr(plan, "_plans", lambda *_: plans)
    config = load(CompareConfig, {"samples": 4800, "match": "seconds"})
    kind = (METHODS["sler_ir"].backbone, later)
    found = plan_timed(config, None, None, [kind])
    assert [one.key for one in found[kind]] == timed
