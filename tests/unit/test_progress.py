import dataclasses
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from expertree.progress import (
    ExpertState,
    Pace,
    ProgressView,
    Snapshot,
    StageState,
    WorkState,
    changes,
    clock_text,
    summary,
)


def stage(name: str, state: WorkState, **fields: float) -> StageState:
    return StageState(name=name, state=state, **fields)


def expert(label: str, state: WorkState = WorkState.QUEUED, **fields: float) -> ExpertState:
    return ExpertState(label=label, state=state, num_samples=1000, **fields)


def snapshot(
    *stages: StageState, experts: tuple[ExpertState, ...] = (), elapsed_s: float = 0.0
) -> Snapshot:
    return Snapshot(title="demo", elapsed_s=elapsed_s, stages=stages, experts=experts)


class Hands:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain_view(clock: Callable[[], float]) -> tuple[ProgressView, io.StringIO]:
    out = io.StringIO()
    return ProgressView(Console(file=out, width=100), clock=clock), out


def test_plain_lines_come_when_a_state_changes_and_not_between() -> None:
    clock = Hands()
    view, out = plain_view(clock)
    view.update(snapshot(stage("embed", WorkState.RUNNING)))
    for second in range(1, 9):
        clock.now = second
        view.update(snapshot(stage("embed", WorkState.RUNNING, elapsed_s=second), elapsed_s=second))
    view.update(snapshot(stage("embed", WorkState.DONE, elapsed_s=9.0), elapsed_s=9.0))
    view.close()
    assert out.getvalue().splitlines() == [
        "[   0:00] embed: begun",
        "[   0:09] embed: done in 0:09",
    ]


def test_plain_lines_come_every_ten_seconds_while_nothing_changes() -> None:
    clock = Hands()
    view, out = plain_view(clock)
    for second in range(35):
        clock.now = second
        now = stage("embed", WorkState.RUNNING, elapsed_s=second, num_done=second, num_total=100)
        view.update(dataclasses.replace(snapshot(now, elapsed_s=second), left_s=now.left_s))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[1] == "[   0:10] embed: 10 %; about 1:30 left of embed"


def test_plain_output_has_no_terminal_codes_and_no_line_is_wrapped() -> None:
    view, out = plain_view(Hands())
    view.update(
        snapshot(StageState(name="x" * 150, state=WorkState.FAILED, detail="[why] no disk"))
    )
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().splitlines() == [f"[   0:00] {'x' * 150}: failed: [why] no disk"]


def test_experts_of_an_earlier_run_are_counted_and_not_listed() -> None:
    found = (expert("#0", WorkState.CACHED), expert("#1", WorkState.DONE), expert("#2"))
    assert changes(snapshot(), snapshot(experts=found)) == ["experts: 2 done, 1 queued"]


def test_an_expert_is_told_when_it_ends_and_when_it_is_tried_again() -> None:
    before = snapshot(
        experts=(expert("#1", WorkState.RUNNING), expert("#2", WorkState.RUNNING), expert("#3"))
    )
    after = snapshot(
        experts=(
            expert("#1", WorkState.DONE, loss=0.03127),
            ExpertState(label="#2", state=WorkState.RUNNING, attempt=2, lane="4"),
            expert("#3", WorkState.RUNNING),
        )
    )
    assert changes(before, after) == [
        "expert #1: done, loss 0.0313",
        "expert #2: attempt 2 on lane 4",
    ]
    assert changes(after, after) == []


def test_a_stage_found_in_the_store_says_so() -> None:
    assert changes(None, snapshot(stage("shard", WorkState.CACHED))) == [
        "shard: found in the store"
    ]


def test_the_summary_names_what_runs_and_the_time_left() -> None:
    now = Snapshot(
        title="demo",
        elapsed_s=60.0,
        stages=(stage("train experts", WorkState.RUNNING, elapsed_s=60.0),),
        experts=(expert("#1 noise", WorkState.RUNNING, samples=250), expert("#2")),
        left_s=200.0,
    )
    assert summary(now) == (
        "train experts: running; experts: 1 running, 1 queued; #1 noise 25 %; about 3:20 left of "
        "train experts"
    )
    counting = stage("experts", WorkState.RUNNING, elapsed_s=60.0, num_done=1, num_total=3)
    both = summary(dataclasses.replace(now, stages=(counting,)))
    assert both.startswith("experts: 33 %; experts: 1 running")
    assert both.count("left") == 1


def test_time_left_follows_from_what_was_done_so_far() -> None:
    assert stage("x", WorkState.RUNNING, elapsed_s=30, num_done=3, num_total=9).left_s == 60
    assert stage("x", WorkState.RUNNING, elapsed_s=30, num_done=0, num_total=9).left_s is None
    # What was there at the first report, of an earlier run, took none of this one's time.
    resumed = stage("x", WorkState.RUNNING, elapsed_s=40, num_done=7, num_total=9)
    resumed = dataclasses.replace(resumed, first_done=5, first_s=10, since_done=5, since_s=10)
    assert resumed.left_s == 30
    assert dataclasses.replace(resumed, num_done=5).left_s is None
    # Three units in the first second: nobody knows yet.
    assert stage("x", WorkState.RUNNING, elapsed_s=1, num_done=3, num_total=900).left_s is None


def test_slow_first_steps_say_nothing_of_the_time_left() -> None:
    """A training whose first steps took a second and a half each, and the others a quarter."""
    pace, total = Pace(), 6000
    ends = [1.5 * step for step in range(1, 14)]
    ends += [ends[-1] + 0.25 * step for step in range(1, 400)]
    for num_done, elapsed_s in enumerate(ends, start=1):
        pace.add(num_done, elapsed_s)
        (first_done, first_s), (since_done, since_s) = pace.first, pace.since
        left_s = StageState(
            name="extractor",
            state=WorkState.RUNNING,
            elapsed_s=elapsed_s,
            num_done=num_done,
            num_total=total,
            first_done=first_done,
            first_s=first_s,
            since_done=since_done,
            since_s=since_s,
        ).left_s
        if elapsed_s < 30:
            assert left_s is None
        elif elapsed_s > 32:
            assert left_s == pytest.approx(0.25 * (total - num_done), rel=0.3)
    assert left_s == pytest.approx(0.25 * (total - num_done), rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (7, "0:07"), (759.6, "12:40"), (11100, "3:05:00")]
)
def test_times_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def draw(experts: tuple[ExpertState, ...], height: int) -> str:
    console = Console(
        file=io.StringIO(), width=120, height=height, force_terminal=True, _environ={}
    )
    view = ProgressView(console)
    picture = view._picture(
        Snapshot(
            title="demo",
            elapsed_s=75.0,
            stages=(
                stage("degrade", WorkState.DONE, elapsed_s=20.0),
                stage("train experts", WorkState.RUNNING, elapsed_s=55.0, num_done=1, num_total=3),
                stage("bundle", WorkState.QUEUED),
            ),
            experts=experts,
            left_s=90.0,
        )
    )
    with console.capture() as capture:
        console.print(picture)
    return capture.get()


def test_the_live_view_shows_stages_and_experts_with_their_numbers() -> None:
    experts = (
        expert("#0", WorkState.DONE),
        expert("#1 noise", WorkState.RUNNING, samples=250, samples_per_s=25, loss=0.0512, lane="1"),
        expert("#2 rain"),
    )
    text = draw(experts, height=40)
    for words in ("demo", "1:15", "1:30 left of train experts", "train experts", "experts: 1 done"):
        assert words in text
    for words in ("#1 noise", "250 of 1,000", "loss 0.0512", "lane 1", "#2 rain"):
        assert words in text
    assert text.count("left") == 1


def test_a_low_terminal_shows_the_running_experts_and_counts_the_others() -> None:
    experts = tuple(
        expert(f"#{n}", WorkState.RUNNING if n == 7 else WorkState.QUEUED) for n in range(30)
    )
    text = draw(experts, height=24)
    assert "experts: 1 running, 29 queued" in text
    assert "#7" in text
    assert "#12" not in text
    assert text.count("\n") <= 24


def test_when_all_experts_are_trained_their_list_folds_to_a_count() -> None:
    text = draw((expert("#0", WorkState.DONE), expert("#1", WorkState.CACHED)), height=40)
    assert "experts: 2 done" in text
    assert "1,000" not in text


def test_a_terminal_gets_the_live_view_and_gets_its_cursor_back() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, height=30, force_terminal=True, _environ={})
    with ProgressView(console) as view:
        view.update(snapshot(stage("embed", WorkState.RUNNING)))
        view.update(snapshot(stage("embed", WorkState.DONE, elapsed_s=3.0)))
    view.close()
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1
    assert "embed" in out.getvalue()
