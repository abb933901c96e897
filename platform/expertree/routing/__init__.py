"""Routing: from an image's embedding to the one expert that restores it.

`router.py` is the network, `losses.py` what it is trained on, `training.py` the training on a table
of scores, `decision.py` the choice for an image, `audit.py` what a better choice would have gained.
"""

from expertree.routing.audit import Audit, audit_routes, node_table
from expertree.routing.decision import Route, decide
from expertree.routing.router import Router, RouterOutput, RouterShape, load_router, save_router
from expertree.routing.training import RouterConfig, RouterEpoch, TrainedRouter, train_router

__all__ = [
    "Audit",
    "Route",
    "Router",
    "RouterConfig",
    "RouterEpoch",
    "RouterOutput",
    "RouterShape",
    "TrainedRouter",
    "audit_routes",
    "decide",
    "load_router",
    "node_table",
    "save_router",
    "train_router",
]
