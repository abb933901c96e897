"""Route an image by its embedding to the one expert that restores it, or to none.

`router.py` is the network, `measures.py` what it reads beside an embedding, `losses.py` its losses,
`settings.py` and `training.py` the training on a table of scores, `decision.py` the choice for an
image, `wish.py` what a user wants of it, `guide.py` what a user's words leave to choose from,
`audit.py` what a better choice would have gained.
"""

from expertree.routing.audit import Audit, audit_routes, node_table, routed_scores
from expertree.routing.decision import Route, decide
from expertree.routing.guide import (
    Guide,
    level_of_confidence,
    load_guide,
    make_guide,
    merge_guides,
    save_guide,
)
from expertree.routing.measures import measure
from expertree.routing.router import (
    Router,
    RouterOutput,
    RouterShape,
    load_router,
    points_of,
    save_router,
)
from expertree.routing.settings import RouterConfig
from expertree.routing.training import RouterEpoch, TrainedRouter, train_router
from expertree.routing.wish import AUTOMATIC, TilePx, Wish, choose

__all__ = [
    "AUTOMATIC",
    "Audit",
    "Guide",
    "Route",
    "Router",
    "RouterConfig",
    "RouterEpoch",
    "RouterOutput",
    "RouterShape",
    "TilePx",
    "TrainedRouter",
    "Wish",
    "audit_routes",
    "choose",
    "decide",
    "level_of_confidence",
    "load_guide",
    "load_router",
    "make_guide",
    "measure",
    "merge_guides",
    "node_table",
    "points_of",
    "routed_scores",
    "save_guide",
    "save_router",
    "train_router",
]
