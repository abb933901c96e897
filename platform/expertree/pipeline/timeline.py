"""What an event log says of a build's time: seconds of work, and when each expert was trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def time_of_work(events: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds spent in stages that made something, over all starts of the job."""
    done = [event for event in events if event["event"] == "stage_done" and not event["cached"]]
    return float(sum(event["seconds"] for event in done))


def timeline(events: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all attempts at training experts in an event log, over all starts of the job.

    Args:
        events: Events, as `read_events` returns them.

    Yields:
        `expert` (its label), `lane`, `node`, `start_s` and `end_s` since the first attempt began,
        `attempt`, `outcome`. Looks at what another job was doing are left out. An attempt that was
        cut off with its job is `killed`, and ends at the last sign of life of that job.
    """
    spans = [span for span in _spans(events) if span["outcome"] != "held"]
    first = min((span["start_s"] for span in spans), default=0.0)
    for span in spans:
        moved = {name: round(span[name] - first, 2) for name in ("start_s", "end_s")}
        yield span | moved


def _spans(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return all attempts, with times in seconds since 1970."""
    open_attempts: dict[tuple[str, int], dict[str, Any]] = {}
    spans: list[dict[str, Any]] = []
    last_t = 0.0
    for event in events:
        if event["event"] == "build_started":
            for span in open_attempts.values():
                span.update(end_s=last_t, outcome="killed")
            open_attempts.clear()
        elif event["event"] == "expert_started":
            span = {
                "expert": event["label"],
                "lane": event["lane"],
                "node": event["node"],
                "start_s": event["start"],
                "end_s": event["start"],
                "attempt": event["number"],
                "outcome": "running",
            }
            spans.append(span)
            open_attempts[event["key"], event["number"]] = span
        elif event["event"] == "expert_ended":
            ended = open_attempts.pop((event["key"], event["number"]), None)
            if ended is not None:
                ended.update(end_s=event["end"], outcome=event["outcome"])
        last_t = event["t"]
    return spans
