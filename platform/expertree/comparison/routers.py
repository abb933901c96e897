"""Trains the routers of a method: of a tree for its rows, of one network for its bundle alone."""

import dataclasses
from collections.abc import Mapping

from expertree.comparison.plan import ROUTE, Common, Training
from expertree.comparison.settings import CompareConfig
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.routers import serving_plans, train_router_on
from expertree.pipeline.score import INPUTS, MEASURES
from expertree.pipeline.stages import Workbench
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Routed:
    """The routers of a method, and the experts that they choose among.

    Attributes:
        serving: The expert that serves each node, by node.
        router: Result with the routers.
    """

    serving: Mapping[int, ExpertPlan]
    router: Storage


def makes_bundle(config: CompareConfig, training: Training) -> bool:
    """Return whether a training becomes a bundle: one of the first seed, which chooses by routers.

    What is told has the networks of the method that is not, and the bundle with them.
    """
    method = training.method
    return training.seed == config.seeds[0] and method.choice == "router" and not method.told


def train_routers(
    bench: Workbench,
    common: Common,
    training: Training,
    scores: Mapping[tuple[str, str], Storage],
) -> Routed:
    """Train the routers of a method on its networks' scores, by key and set, on their patches."""
    config, vectors = training.config, common.embeddings[ROUTE]
    serving = serving_plans(
        training.hierarchy.tree,
        training.plans,
        embeddings={ROUTE: vectors},
        scores=scores,
        prune=config.experts.prune,
    )
    has_root = config.hierarchy.has_root
    router = train_router_on(
        config,
        bench,
        training.hierarchy,
        embeddings=[vectors],
        columns={n: [scores[own.key, ROUTE]] for n, own in serving.items() if has_root or n},
        inputs=[scores[INPUTS, ROUTE]],
        measures=[scores[MEASURES, ROUTE]] if config.router.reads_measures else [],
        training=[(common.tables["train"], common.embeddings["train"])],
    )
    return Routed(serving=serving, router=router)
