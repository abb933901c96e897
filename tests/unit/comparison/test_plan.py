"""What the trainings of a comparison are planned on."""

from collections.abc import Mapping
from typing import Any

import pytest

from expertree.comparison import plan
from expertree.comparison.plan import make_common
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
