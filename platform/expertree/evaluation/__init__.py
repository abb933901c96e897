"""Computes the numbers of a run from scores and routes: tables, routing, gains.

`methods.py` names the rows of every table, `scores.py` says what each of them reached on each
patch, `tables.py` makes the tables and the headline, `routing.py` follows the routes.
"""

from expertree.evaluation.methods import METHODS, Described, described, gain_over
from expertree.evaluation.routing import clean_images, gains_over_parent, routing, shift
from expertree.evaluation.scores import (
    AS_IS,
    HARM_DB,
    Evaluated,
    MethodScores,
    Scores,
    choices,
    chosen_scores,
    is_as_is,
    methods,
)
from expertree.evaluation.tables import METRICS, average, summary, table

__all__ = [
    "AS_IS",
    "HARM_DB",
    "METHODS",
    "METRICS",
    "Described",
    "Evaluated",
    "MethodScores",
    "Scores",
    "average",
    "choices",
    "chosen_scores",
    "clean_images",
    "described",
    "gain_over",
    "gains_over_parent",
    "is_as_is",
    "methods",
    "routing",
    "shift",
    "summary",
    "table",
]
