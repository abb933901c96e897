"""Measurement of public sets on a Ray cluster: actors with the model take one image each.

Pixels never travel: an actor reads a set's files, in folders that every node sees, and only scores
come back.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from expertree.errors import ExpertreeError, ResourceError
from expertree.orchestration.cluster import connect, num_data_workers, resources
from expertree.orchestration.restore_files import OWN_CLUSTER, num_gpus_for
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.public_sets.measuring import Scored, measure_item
from expertree.public_sets.plan import Item
from expertree.restorer import Restorer
from expertree.restorer.on_dataset import EvaluateConfig

_WAITING = 2
"""Images that an actor has at a time: the one that it measures, and the next."""

_RETRIES = 3
"""Times that an actor whose process or node was lost is started again, and its images with it."""


def on_cluster(config: EvaluateConfig, items: Sequence[Item]) -> Iterator[Scored]:
    """Measure items on the cluster that `config.cluster` names.

    Yields:
        The result of each item, in the order in which they are done.

    Raises:
        ConfigError: If a certain GPU is asked for.
        ResourceError: If the cluster cannot be reached, or has no GPU though one is asked for, or
            a worker cannot open the bundle or was lost too often.
        DatasetError: If an image cannot be read.
    """
    address = None if config.cluster == OWN_CLUSTER else config.cluster
    with connect(ClusterConfig(address=address)):
        num_gpus = num_gpus_for(config.device, int(resources().get("GPU", 0.0)))
        num_workers = min(num_gpus or num_data_workers(), len(items))
        worker: Any = ray.remote(_Worker)
        actors = [
            worker.options(
                num_cpus=1,
                num_gpus=1 if num_gpus else 0,
                max_restarts=_RETRIES,
                max_task_retries=_RETRIES,
            ).remote(config)
            for _ in range(num_workers)
        ]
        yield from _results(actors, list(reversed(items)))


def _results(actors: Sequence[Any], left: list[Item]) -> Iterator[Scored]:
    """Keep each actor supplied, and yield results as they come."""
    running: dict[Any, Any] = {}

    def supply(actor: Any) -> None:  # noqa: ANN401 - Ray's handles have no type
        if left:
            running[actor.measure.remote(left.pop())] = actor

    for _ in range(_WAITING):
        for actor in actors:
            supply(actor)
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor = running.pop(done)
        supply(actor)
        yield _result_of(done)


def _result_of(done: Any) -> Scored:  # noqa: ANN401 - Ray's references have no type
    """Return what an actor measured, or raise what kept it from that, without Ray's traceback."""
    try:
        return cast("Scored", ray.get(done))
    except RayTaskError as error:
        if isinstance(error.cause, ExpertreeError):
            raise error.cause from error
        raise
    except RayError as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ResourceError(
            f"a worker of the cluster was lost: {reason}; start this again, images that were "
            "measured are not measured again"
        ) from error


class _Worker:
    """An actor: opens the bundle once, then measures images."""

    def __init__(self, config: EvaluateConfig) -> None:
        if config.device == "cpu":
            torch.set_num_threads(1)
        self._restorer: Restorer | None = None
        self._problem = ""
        try:
            self._restorer = Restorer.load(config.bundle, device=config.device)
        except ExpertreeError as error:  # raised here, it would be told as the actor's death
            self._problem = str(error)

    def measure(self, item: Item) -> Scored:
        if self._restorer is None:
            raise ResourceError(f"a worker of the cluster cannot begin: {self._problem}")
        return measure_item(self._restorer, item)
