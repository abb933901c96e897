"""Measure a bundle on all public sets below a folder, and write the tables and the page.

Each image's scores are a line of the run's log as soon as they are there. So a run that was killed
goes on behind the images that it has, and one with another bundle measures all of them again.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from expertree.datasets import DATASETS, Found, find_datasets
from expertree.datasets.layouts import PICTURES, SCORES
from expertree.errors import ConfigError, DatasetError
from expertree.evaluation.public_sets import Column, Row, make_table
from expertree.evaluation.published import read_published
from expertree.events import EventLog, read_events
from expertree.public_sets.measuring import Scored, measure_item
from expertree.public_sets.origin import Origin, origin_of
from expertree.public_sets.plan import IMAGE, Item, plan
from expertree.public_sets.rows import columns_and_rows, experts_used
from expertree.report.sets_page import Photograph, SetsReport, render_sets
from expertree.restorer import Bundle, Restorer, find_bundle, open_bundle
from expertree.restorer.on_dataset import EvaluateConfig, OnImage
from expertree.restorer.shipped import SHIPPED
from expertree.storage import Storage
from expertree.uris import public

LOG = SCORES
OUTPUT = "runs/sets"

OTHERS = "other folders"
"""What problems are listed under that belong to no set."""

Work: TypeAlias = Callable[[EvaluateConfig, Sequence[Item]], Iterator[Scored]]
"""Function that measures items, in any order, and yields the result of each as it is there."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """All that was measured of a bundle.

    Attributes:
        found: The sets.
        unreadable: For each folder that could not be looked into a clause about it.
        scored: Scores of their images, in their order.
        origin: What is known of the model.
        columns: The measured columns.
        rows: The rows on them: input, best classical method, ours, and ours where it is told.
        output: Folder of the run.
    """

    found: Sequence[Found]
    unreadable: Sequence[str]
    scored: Sequence[Scored]
    origin: Origin
    columns: Sequence[Column]
    rows: Sequence[Row]
    output: Path


def in_this_process(config: EvaluateConfig, items: Sequence[Item]) -> Iterator[Scored]:
    """Measure items one after the other in this process."""
    restorer = Restorer.load(config.bundle, device=config.device)
    for item in items:
        yield measure_item(restorer, item)


def measure_sets(config: EvaluateConfig, work: Work, on_image: OnImage) -> tuple[SetsReport, Path]:
    """Measure a bundle, and write what came of it; see `measure`.

    Args:
        config: See `measure`.
        work: See there.
        on_image: See there.

    Returns:
        The report, and the folder with `sets.json`, `sets.csv`, `sets.tex` and `sets.html`.
    """
    published = read_published(config.published)
    own = measure(config, work, on_image)
    report = SetsReport(
        table=make_table(own.columns, own.rows, published),
        protocols={name: one.text for name, one in published.protocols.items()},
        origin=dataclasses.asdict(own.origin),
        roots={one.name: str(one.root) for one in own.found}
        | ({OTHERS: config.sets} if own.unreadable else {}),
        problems={one.name: one.problems for one in own.found if one.problems}
        | ({OTHERS: own.unreadable} if own.unreadable else {}),
        experts=experts_used(own.scored),
        photographs=tuple(_photographs(own.scored, own.output)),
        seconds=sum(one["seconds"] for one in own.scored),
    )
    for name, data in render_sets(report).items():
        Storage.open(own.output).write_bytes(name, data)
    return report, own.output


def check_sets(config: EvaluateConfig) -> None:
    """Raise unless something can be measured, without a look at the bundle; see `measure`."""
    _check(config)
    read_published(config.published)
    _found(config)


def measure(config: EvaluateConfig, work: Work, on_image: OnImage) -> Measured:
    """Measure a bundle on every known set below `config.sets`.

    Args:
        config: The bundle, the folder of the sets and that of the run.
        work: Function that measures: in this process, or on a cluster.
        on_image: Called after each image; images of an earlier run are counted, not named.

    Raises:
        ConfigError: If something must be given, or does not go together.
        DatasetError: If no set can be measured, or an image cannot be read.
        ArtefactError: If the bundle is damaged.
        StorageError: If the output cannot be written.
    """
    _check(config)
    config = _absolute(config)
    found, unreadable = _found(config)
    output = _output(config)
    bundle = open_bundle(find_bundle(config.bundle))
    if config.expert is not None:
        _check_expert(bundle, config.expert)
    items = plan(
        found,
        model=bundle.manifest.digest,
        classical=config.classical,
        output=output,
        expert=config.expert,
    )
    scored = _all_scored(config, items, output, work, on_image)
    origin = origin_of(bundle, config.expert)
    columns, rows = columns_and_rows(found, scored, origin)
    return Measured(
        found=found,
        unreadable=unreadable,
        scored=scored,
        origin=origin,
        columns=columns,
        rows=rows,
        output=output,
    )


def _check(config: EvaluateConfig) -> None:
    if not config.bundle:
        raise ConfigError("give bundle=...")
    if config.root or config.channels is not None:
        raise ConfigError(
            "sets finds the folders and the protocols of sets by itself; leave root and channels "
            "out, or name one dataset and its root without sets"
        )
    if "://" in (config.output or ""):
        raise ConfigError(
            f"output={public(config.output)} is a URI; with sets give a folder of this machine, "
            "where the scores of each image are added to a file"
        )
    if config.dataset and config.dataset not in DATASETS:
        raise ConfigError(
            f"data set '{config.dataset}' is not known; there are {', '.join(DATASETS)}"
        )


def _absolute(config: EvaluateConfig) -> EvaluateConfig:
    """Return settings that mean the same in a process with another working directory."""
    is_name = config.bundle == SHIPPED or "://" in config.bundle
    return dataclasses.replace(
        config,
        sets=str(Path(config.sets).expanduser().absolute()),
        bundle=config.bundle if is_name else Storage.open(config.bundle).uri,
    )


def _output(config: EvaluateConfig) -> Path:
    """Return the folder of the run, which is made, and tried."""
    output = Path(config.output or OUTPUT).expanduser().absolute()
    if (output / PICTURES).exists() and not (output / LOG).exists():
        raise ConfigError(
            f"output={output} has a folder '{PICTURES}' that no run wrote; give output a folder of "
            "its own, where pictures of the page are not mixed with others"
        )
    Storage.open(output).check_writable()
    (output / LOG).touch()
    return output


def _check_expert(bundle: Bundle, expert: int) -> None:
    try:
        bundle.entry(expert)
    except ValueError as error:
        raise ConfigError(f"expert={expert}: {error}") from None


def _found(config: EvaluateConfig) -> tuple[list[Found], list[str]]:
    """Return the sets, and a clause about each folder that could not be looked into."""
    unreadable: list[str] = []
    found = find_datasets(
        config.sets, only=config.dataset, partial=config.partial, on_unreadable=unreadable.append
    )
    if config.split:
        found = [
            dataclasses.replace(
                one, splits=tuple(part for part in one.splits if part.split == config.split)
            )
            for one in found
        ]
    if any(one.splits for one in found):
        return found, unreadable
    problems = [*(problem for one in found for problem in one.problems), *unreadable]
    expected = "; folders are known by their names, as docs/DATASETS.md says"
    reason = f": {problems[0]}" if problems else expected
    raise DatasetError(f"no set below '{config.sets}' can be measured{reason}")


def _all_scored(
    config: EvaluateConfig, items: Sequence[Item], output: Path, work: Work, on_image: OnImage
) -> list[Scored]:
    """Return the scores of all items, in their order; those of an earlier run are in its log."""
    log = EventLog(output / LOG)
    done: dict[str, Mapping[str, Any]] = {
        event["key"]: event for event in read_events(output / LOG) if event["event"] == IMAGE
    }
    left = [item for item in items if not _is_done(item, done)]
    number = len(items) - len(left)
    for scored in work(config, left) if left else ():
        log.emit(IMAGE, **scored)
        done[scored["key"]] = scored
        number += 1
        on_image(number, len(items), f"{scored['dataset']}/{scored['split']}/{scored['name']}")
    return [dict(done[item.key]) for item in items]


def _is_done(item: Item, done: Mapping[str, Mapping[str, Any]]) -> bool:
    return item.key in done and (item.picture is None or item.picture.is_file())


def _photographs(scored: Sequence[Scored], output: Path) -> Iterator[Photograph]:
    for one in scored:
        if "picture" in one:
            expert = one["expert"]
            yield Photograph(
                name=one["name"],
                title=DATASETS[one["dataset"]].title,
                caption="left as it is" if expert is None else f"expert {expert}",
                both=(output / PICTURES / one["picture"]).read_bytes(),
            )
