import pickle
from pathlib import Path
from typing import Any

from expertree.orchestration.search.tuning import (
    FINISHED,
    ListedTrials,
    OptunaProposals,
    TrialSource,
)
from expertree.pipeline.settings import BuildConfig
from expertree.search.draws import random_trials
from expertree.search.record import Objectives, Trial
from expertree.search.space_file import read_space

SPACE = read_space(
    "mine",
    {
        "parameters": {
            "tree.levels": {"choice": [2, 3]},
            "hierarchy.groups[1]": {"int": [2, 6]},
            "hierarchy.groups[2]": {"int": [4, 12], "when": {"tree.levels": 3}},
            "hierarchy.metric": {"choice": ["l2", "cosine"]},
            "router.alpha": {"log_uniform": [0.01, 1.0]},
        }
    },
    BuildConfig,
)
REACHED = Objectives(psnr_in=24.0, psnr_out=19.0, gpu_hours=1.0)


def optuna(folder: Path, known: list[Trial], num_trials: int = 6) -> OptunaProposals:
    journal = str(folder / "study.journal")
    return OptunaProposals(
        SPACE, journal=journal, name="mine", seed=0, num_trials=num_trials, known=known
    )


def trial(number: int, status: Any) -> Trial:
    return Trial(
        number=number,
        shape="",
        parameters={},
        overrides={"hierarchy.groups": [1, 2]},
        status=status,
        reason=None,
        reached=[],
        objectives=REACHED if status == "completed" else None,
        tree=[],
        experts=[],
        trained_hours=0.0,
        begin_s=0.0,
        end_s=None,
    )


def test_optuna_proposes_trials_of_the_space_and_goes_on_where_its_journal_ends(
    tmp_path: Path,
) -> None:
    first = optuna(tmp_path, [])
    proposed = [first.propose() for _ in range(3)]
    assert [own[0] for own in proposed if own is not None] == [0, 1, 2]
    for own in proposed:
        assert own is not None
        groups = SPACE.overrides(own[1])["hierarchy.groups"]
        assert groups[0] == 1
        assert groups == sorted(set(groups))
    first.tell(0, {"psnr_in": 24.0, "psnr_out": 19.0, "gpu_hours": 1.0})
    # Cut off here: trial 1 was finished and not told, and nobody knows of trial 2.
    again = optuna(tmp_path, [trial(0, "completed"), trial(1, "completed")])
    following = [again.propose() for _ in range(5)]
    assert [own[0] for own in following if own is not None] == [3, 4, 5, 6]


def test_a_list_hands_out_what_was_not_proposed_before() -> None:
    listed = ListedTrials([{"router.alpha": n} for n in range(4)], known=[0, 2])
    assert [listed.propose() for _ in range(3)] == [
        (1, {"router.alpha": 1}),
        (3, {"router.alpha": 3}),
        None,
    ]


def test_a_longer_random_search_begins_with_the_trials_of_a_shorter_one() -> None:
    assert random_trials(SPACE, 5, seed=1) == random_trials(SPACE, 9, seed=1)[:5]
    assert random_trials(SPACE, 5, seed=1) != random_trials(SPACE, 5, seed=2)


def test_what_was_cut_off_comes_first_and_a_spent_budget_ends_it(tmp_path: Path) -> None:
    source = TrialSource(
        [trial(7, "waiting")],
        ListedTrials([{"router.alpha": 0.5}, {"router.alpha": 0.6}], known=[]),
        overrides_of=SPACE.overrides,
        registry="registry",
        num_rungs=2,
    )
    first, second = source.suggest("a"), source.suggest("b")
    assert first is not None
    assert second is not None
    assert (first["number"], second["number"]) == (7, 0)
    assert second["overrides"] == '{"router.alpha": 0.5}'
    pickle.dumps(source)
    source.save(str(tmp_path / "searcher"))
    source.on_trial_complete("a", {"status": "stopped", "is_out_of_budget": True})
    assert source.suggest("c") == FINISHED
