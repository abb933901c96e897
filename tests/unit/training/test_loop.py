"""The loop on a network of one layer: what it promises to every network that it trains."""

import dataclasses
import itertools

import pytest
import torch
from torch import nn

from expertree.errors import PausedError, TrainingError
from expertree.storage import Storage
from expertree.training import AVERAGE, Checkpoints, Optimizer, Plan, rate_share, train

PLAN = Plan(
    name="the line",
    num_samples=50,
    size_at=lambda num_seen: 3 if num_seen < 30 else 5,
    learning_rate=0.05,
    rate_share_at=lambda num_seen: rate_share(num_seen, 50, step=3, warmup=6),
    checkpoint_every=10,
    curve_every=12,
    num_threads=1,
)


class StoppedError(Exception):
    """Stands for a kill."""


class Line:
    """Learns three times its input."""

    def __init__(self, on_note, nan_at=()) -> None:
        torch.manual_seed(0)
        self.network, self.note, self.nan_at = nn.Linear(2, 2), on_note, nan_at
        self.optimizer = Optimizer(
            self.network.parameters(), learning_rate=PLAN.learning_rate, weight_decay=0.0
        )
        self.seen = []

    def learn(self, batch, positions, rate_share):
        self.seen.append((positions, rate_share))
        loss = (self.network(batch) - 3 * batch).square().mean()
        loss = loss * (float("nan") if positions.start in self.nan_at else 1.0)
        self.network.zero_grad()
        loss.backward()
        self.optimizer.step(rate_share)
        return loss.detach()

    def tensors(self):
        return {**self.network.state_dict(), **self.optimizer.tensors()}

    def resume(self, tensors):
        self.network.load_state_dict({name: tensors[name] for name in ("weight", "bias")})
        self.optimizer.resume(tensors)


def draw(positions):
    return torch.sin(torch.tensor([[p, 2 * p] for p in positions], dtype=torch.float32))


@pytest.fixture(autouse=True)
def _report_each_step(monkeypatch):
    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)


@pytest.fixture
def run(tmp_path):
    def trained(name, *, begin=Line, plan=PLAN, **options):
        checkpoints = Checkpoints(Storage.open(tmp_path / name), "job")
        return train(plan, draw=draw, begin=begin, checkpoints=checkpoints, **options)

    return trained


def weights(learner):
    return torch.cat([weight.detach().flatten() for weight in learner.network.parameters()])


def stop_at(num_samples, error=StoppedError):
    def on_progress(status):
        if status["samples"] >= num_samples:
            raise error("stop")

    return on_progress


def test_steps_follow_the_plan_and_end_with_its_samples(run):
    learner, record = run("whole")
    positions = [seen[0] for seen in learner.seen]
    assert positions == [range(n, n + 3) for n in range(0, 30, 3)] + [
        range(n, n + 5) for n in range(30, 50, 5)
    ]
    assert [seen[1] for seen in learner.seen] == [PLAN.rate_share_at(p.start) for p in positions]
    assert record.num_seen == 50
    assert [samples for samples, _ in record.curve] == [12, 24, 40, 50]
    assert record.curve[-1][1] < record.curve[0][1]


@pytest.mark.parametrize("stops", [(1,), (12, 31), (49,)])
def test_stopped_and_resumed_equals_undisturbed_to_the_bit(run, stops):
    whole, expected = run("whole")
    for stop in stops:
        with pytest.raises(StoppedError):
            run("stopped", on_progress=stop_at(stop))
    resumed, record = run("stopped")
    assert torch.equal(weights(resumed), weights(whole))
    assert record.curve == expected.curve


def test_a_pause_costs_no_step(run):
    whole, _ = run("whole")
    with pytest.raises(PausedError):
        run("paused", on_progress=stop_at(31, PausedError))
    resumed, _ = run("paused")
    assert resumed.seen[0][0].start == 35
    assert torch.equal(weights(resumed), weights(whole))


def test_it_stops_early_where_it_is_told_and_goes_on_from_there(run):
    whole, _ = run("whole")
    part, record = run("parts", until=20)
    assert record.num_seen == 21
    assert not torch.equal(weights(part), weights(whole))
    resumed, _ = run("parts")
    assert resumed.seen[0][0].start == 21
    assert torch.equal(weights(resumed), weights(whole))


def test_it_does_not_stop_where_it_has_been_already(run):
    for until in (5, 20, 21):
        run("parts", until=until)
    with pytest.raises(TrainingError, match=r"the line is to stop after 18 samples, but .* 21 at"):
        run("parts", until=18)
    with pytest.raises(StoppedError):
        run("parts", on_progress=stop_at(35))
    assert [PLAN.end_of_part(until) for until in (0, 1, 18, 29, 31, 99)] == [0, 3, 18, 30, 35, 50]


def test_checkpoints_are_shown_with_the_network(run):
    shown = []
    run("shown", on_checkpoint=lambda samples, network: shown.append((samples, network.weight[0])))
    assert [samples for samples, _ in shown] == [12, 21, 30, 40, 50]


def test_a_loss_that_is_not_finite_halves_the_rate_from_the_checkpoint_on(run):
    first_only = itertools.chain([(24,)], itertools.repeat(()))
    learner, record = run("back", begin=lambda note: Line(note, nan_at=next(first_only)))
    assert learner.seen[0][0].start == 21
    assert learner.seen[0][1] == PLAN.rate_share_at(21) / 2
    (note,) = record.notes
    # Seen at the end of the checkpoint's interval: until then losses are added up unseen.
    assert "not finite after 30 samples; went on from 21 with a learning rate of 0.025" in note
    assert weights(learner).isfinite().all()


def test_a_loss_that_stays_not_finite_ends_in_one_sentence(run):
    with pytest.raises(TrainingError, match=r"the line: .*at half of recipe\.learning_rate=0\.05"):
        run("never", begin=lambda note: Line(note, nan_at=(24,)))


def test_weights_that_are_not_finite_are_never_a_checkpoint(run, tmp_path):
    class Spoilt(Line):
        def learn(self, batch, positions, rate_share):
            loss = super().learn(batch, positions, rate_share)
            with torch.no_grad():
                self.network.bias[0] = float("inf")
            return loss

    plan = dataclasses.replace(PLAN, curve_every=1000)
    with pytest.raises(TrainingError):
        run("inf", begin=Spoilt, plan=plan)
    assert Storage.open(tmp_path / "inf").list_files() == []


@pytest.mark.parametrize("kept", ["weights", "average"])
def test_what_is_not_finite_after_the_last_step_is_no_result(run, kept):
    spoilt = itertools.chain([True], itertools.repeat(False))

    class Averaged(Line):
        def __init__(self, on_note) -> None:
            super().__init__(on_note)
            self.average, self.is_spoilt = torch.zeros(2), next(spoilt)

        def learn(self, batch, positions, rate_share):
            loss = super().learn(batch, positions, rate_share)
            if self.is_spoilt and positions.stop == 50:
                with torch.no_grad():
                    (self.network.bias if kept == "weights" else self.average)[0] = float("nan")
            return loss

        def tensors(self):
            return {**super().tensors(), AVERAGE: self.average}

    plan = dataclasses.replace(PLAN, checkpoint_every=40)
    learner, record = run(kept, begin=Averaged, plan=plan)
    assert "not finite after 50 samples; went on from 40" in record.notes[0]
    assert record.num_seen == 50
    assert weights(learner).isfinite().all()
    spoilt = itertools.repeat(True)
    with pytest.raises(TrainingError, match="not finite after 50 of 50 samples"):
        run(f"{kept} twice", begin=Averaged, plan=plan)


def test_notes_of_the_learner_reach_the_log(run):
    class Talking(Line):
        def learn(self, batch, positions, rate_share):
            if positions.start == 15:
                self.note("halfway")
            return super().learn(batch, positions, rate_share)

    with pytest.raises(StoppedError):
        run("talks", begin=Talking, on_progress=stop_at(40))
    _, record = run("talks", begin=Talking)
    assert record.log()["notes"] == ["halfway"]


def test_reports_tell_how_it_goes(run):
    reports = []
    run("told", on_progress=reports.append)
    assert [report["samples"] for report in reports][-2:] == [45, 50]
    assert reports[-1]["learning_rate"] == pytest.approx(0.05 * PLAN.rate_share_at(45))
    assert all(report["waited_share"] >= 0 for report in reports)
