"""Sum up a batch, as text for people and as JSON for programs."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence

from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import PhotoRecord
from expertree.batch.planning import BatchPlan
from expertree.images.containers import KINDS_READ
from expertree.images.folders import HEIC_SUFFIXES
from expertree.images.heic import ADVICE
from expertree.progress import clock_text

_MAX_NAMED = 20
"""Failures that are named in the text; JSON has them all."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertShare:
    """The part of a batch that one expert restored."""

    expert: int
    level: int
    num_files: int
    num_pixels: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A photograph that was not restored, and why."""

    name: str
    error: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The outcome of a batch.

    Attributes:
        model: Digest of the model.
        num_files: All photographs.
        num_restored: Photographs restored by this run.
        num_as_is: Photographs left as they are by this run, since no expert would make them better.
        num_earlier: Photographs done by an earlier run.
        num_skipped: Photographs left alone, since something lay where they would go.
        seconds: Seconds that this run took.
        experts: What each expert restored, in this run or earlier, most files first.
        failures: Photographs not restored, in this run or for good in an earlier one; and folders
            that could not be looked into.
        noted: Number of photographs that each note is about.
        others: Number of other files of the folder by suffix, which are left alone.
    """

    model: str
    num_files: int
    num_restored: int
    num_as_is: int
    num_earlier: int
    num_skipped: int
    seconds: float
    experts: tuple[ExpertShare, ...]
    failures: tuple[Failure, ...]
    noted: dict[str, int]
    others: dict[str, int]


def summarise(
    model: str,
    plan: BatchPlan,
    records: Sequence[PhotoRecord],
    seconds: float,
    *,
    others: Mapping[str, int],
    unreadable: Sequence[tuple[str, str]],
) -> Summary:
    """Sum up a batch.

    Args:
        model: Digest of the model.
        plan: The plan of the batch.
        records: Records of all photographs that were left to do.
        seconds: Seconds that they took.
        others: Number of other files by suffix.
        unreadable: Folders that could not be looked into, and why.
    """
    everything = [*plan.earlier, *records]
    done = [record for record in everything if record.state == "done"]
    shares = collections.defaultdict[tuple[int, int], list[PhotoRecord]](list)
    for record in done:
        if record.expert is not None:
            shares[record.expert, record.level or 0].append(record)
    experts = [
        ExpertShare(
            expert=expert,
            level=level,
            num_files=len(own),
            num_pixels=sum(record.num_pixels for record in own),
            seconds=round(sum(record.seconds for record in own), 3),
        )
        for (expert, level), own in shares.items()
    ]
    return Summary(
        model=model,
        num_files=len(records) + len(plan.earlier) + len(plan.skipped),
        num_restored=sum(r.state == "done" and not r.is_as_is for r in records),
        num_as_is=sum(record.is_as_is for record in records),
        num_earlier=sum(record.state == "done" for record in plan.earlier),
        num_skipped=len(plan.skipped),
        seconds=round(seconds, 3),
        experts=tuple(sorted(experts, key=lambda share: (-share.num_files, share.expert))),
        failures=(
            *(Failure(name=name, error=_unreadable(why)) for name, why in unreadable),
            *(
                Failure(name=record.name, error=record.error)
                for record in everything
                if record.state == "failed"
            ),
        ),
        noted=dict(collections.Counter(note for record in done for note in record.notes)),
        others=dict(others),
    )


def summary_json(summary: Summary) -> str:
    """Return the summary as JSON."""
    return json.dumps(dataclasses.asdict(summary), indent=2)


def summary_text(summary: Summary) -> str:
    """Return the summary as a few lines of text."""
    lines = [
        f"{summary.num_restored:,} of {summary.num_files:,} restored in "
        f"{clock_text(summary.seconds)}" + _rest(summary)
    ]
    for share in summary.experts:
        rate = share.num_pixels / 1e6 / share.seconds if share.seconds else 0.0
        lines.append(
            f"  expert {share.expert:>3}, level {share.level}: photographs {share.num_files:>7,}, "
            f"megapixels {share.num_pixels / 1e6:>9,.1f}, a second {rate:.2f}"
        )
    if summary.num_as_is:
        lines.append(
            f"  {summary.num_as_is:,} left as they are: no expert would make them better; --insist "
            "restores them all the same"
        )
    if summary.num_skipped:
        lines.append(f"  {summary.num_skipped:,} left alone: something lies where they would go")
    lines += [f"  {number:,} with a note: {note}" for note, number in summary.noted.items()]
    lines += _others(summary.others)
    lines += [
        f"  failed: {failure.name} {failure.error}" for failure in summary.failures[:_MAX_NAMED]
    ]
    if len(summary.failures) > _MAX_NAMED:
        lines.append(f"  and {len(summary.failures) - _MAX_NAMED:,} more failed")
    return "\n".join(lines)


def plan_text(
    items: Sequence[PhotoItem],
    plan: BatchPlan,
    others: Mapping[str, int],
    unreadable: Sequence[tuple[str, str]],
) -> str:
    """Return a text on what a batch would do, for `--dry-run`."""
    left_px = sum(item.num_pixels for item in plan.remaining)
    total = f"{len(plan.remaining):,} of {len(items):,} photographs would be restored"
    lines = [f"{total}, about {left_px / 1e6:,.1f} megapixels"]
    num_failed = sum(record.state == "failed" for record in plan.earlier)
    parts = {
        "are done": len(plan.earlier) - num_failed,
        "failed before and would again": num_failed,
        "are left alone, since something lies where they would go": len(plan.skipped),
    }
    lines += [f"  {number:,} {what}" for what, number in parts.items() if number]
    lines += _others(others)
    lines += [f"  {name} {_unreadable(why)}" for name, why in unreadable]
    lines += [f"  {item.name} -> {item.output}" for item in plan.remaining[:_MAX_NAMED]]
    if len(plan.remaining) > _MAX_NAMED:
        lines.append(f"  and {len(plan.remaining) - _MAX_NAMED:,} more")
    return "\n".join(lines)


def _others(others: Mapping[str, int]) -> list[str]:
    counted = ", ".join(f"{number:,} {suffix}" for suffix, number in others.items())
    lines = [f"  other files: {counted} (read are {KINDS_READ})"] if others else []
    if HEIC_SUFFIXES.keys() & others.keys():
        lines.append(f"  HEIC needs pillow-heif, which is not installed: {ADVICE}")
    return lines


def _unreadable(why: str) -> str:
    return f"cannot be looked into: {why}"


def _rest(summary: Summary) -> str:
    parts = {
        "left as they are": summary.num_as_is,
        "earlier": summary.num_earlier,
        "left alone": summary.num_skipped,
        "failed": len(summary.failures),
    }
    return "".join(f", {number:,} {what}" for what, number in parts.items() if number)
