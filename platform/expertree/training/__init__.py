"""One training loop for every network of the platform, resumable to the bit.

`loop.py` takes the steps: it draws ahead, reports, writes checkpoints, and goes back where the loss
is not finite. What is trained is a `Learner`, a network with its loss and optimiser; the experts'
and the extractor's live with their networks. `schedule.py` has the rates, `optimizers.py` moves the
weights, `record.py` is the log, `checkpoints.py` stores all of it.
"""

from expertree.training.checkpoints import CHECKPOINTS, Checkpoints, is_trained
from expertree.training.flat import FlatParameters
from expertree.training.loop import (
    AVERAGE,
    Learner,
    OnCheckpoint,
    OnNote,
    OnProgress,
    OnWritten,
    Plan,
    train,
)
from expertree.training.optimizers import Optimizer, muon_split
from expertree.training.passes import indices_at
from expertree.training.record import LOG, Record
from expertree.training.schedule import average_decay, rate_share
from expertree.training.workers import ALONE, Workers

__all__ = [
    "ALONE",
    "AVERAGE",
    "CHECKPOINTS",
    "LOG",
    "Checkpoints",
    "FlatParameters",
    "Learner",
    "OnCheckpoint",
    "OnNote",
    "OnProgress",
    "OnWritten",
    "Optimizer",
    "Plan",
    "Record",
    "Workers",
    "average_decay",
    "indices_at",
    "is_trained",
    "muon_split",
    "rate_share",
    "train",
]
