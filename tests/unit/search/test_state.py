from pathlib import Path
from typing import Any

from expertree.search.record import Objectives, RungResult, Trial
from expertree.search.state import SearchState
from expertree.storage import Storage


def trial(number: int, status: Any, *, goes_on: bool | None = None) -> Trial:
    objectives = Objectives(psnr_in=20.0, psnr_out=18.0, gpu_hours=1.0)
    at = RungResult(
        rung=0,
        fraction=0.5,
        objectives=objectives,
        best_level_in=21.0,
        best_level_out=19.0,
        at_s=1.0,
        goes_on=goes_on,
    )
    return Trial(
        number=number,
        shape="{1}",
        parameters={},
        overrides={"hierarchy.groups": [1]},
        status=status,
        reason=None,
        reached=[at],
        objectives=objectives,
        tree=[],
        experts=["a", "b"],
        trained_hours=0.0,
        begin_s=0.0,
        end_s=None,
    )


def test_only_trials_without_an_end_of_their_own_begin_again(tmp_path: Path) -> None:
    state = SearchState(Storage.open(tmp_path))
    state.save(trial(0, "completed"))
    state.save(trial(1, "stopped", goes_on=False))
    state.save(trial(2, "stopped", goes_on=True))
    state.save(trial(3, "failed"))
    state.save(trial(4, "running", goes_on=True))
    again = SearchState(Storage.open(tmp_path)).begin_again()
    assert [own["number"] for own in again] == [2, 3, 4]
    assert {own["status"] for own in again} == {"waiting"}
    assert SearchState(Storage.open(tmp_path)).trials[1]["status"] == "stopped"


def test_hours_are_those_of_the_last_piece_and_a_piece_trained_twice_is_counted(
    tmp_path: Path,
) -> None:
    state = SearchState(Storage.open(tmp_path), devices_per_lane=2)
    state.save(trial(0, "running"))
    state.plan_expert("a", label="root", num_samples=100, in_store=False)
    state.plan_expert("b", label="level 1, group 0", num_samples=100, in_store=True)
    for name, samples, seconds in (("1", 50, 900.0), ("2", 100, 1800.0), ("3", 100, 1700.0)):
        note = {"key": "a", "samples": samples, "seconds": seconds}
        state.notes.write_json(f"a-{name}.json", note)
    state.refresh()
    a, b = state.experts()
    assert (a["samples"], a["hours"], a["repeated"]) == (100, 1.0, 1)
    assert (b["samples"], b["hours"], b["in_store"]) == (100, 0.0, True)
    assert a["trials"] == [0]
    assert state.hours() == 1.0
    # A registry that is started again knows at once what was spent; four lanes may share a GPU.
    assert SearchState(Storage.open(tmp_path), devices_per_lane=0.25).hours() == 0.125
    assert SearchState(Storage.open(tmp_path), devices_per_lane=2).hours() == 1.0
