"""Settings of the routers: what they minimise, how careful they are, what they read."""

import dataclasses
from typing import Literal

from expertree.routing.losses import IDENTICAL_DB

Objective = Literal["cost", "expected_l1", "paper"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """Settings of the training of the routers."""

    objective: Objective = "cost"
    """`cost`: predict what each choice would cost, the input as it is too, and take the cheapest;
    the gates are trained beside. `expected_l1`: gates by the cost of every choice, weighted by its
    probability. `paper`: gates by the cost of the chosen one. Gates leave no input as it is."""

    as_is_margin_db: float = 1.0
    """Margin by which an expert must be predicted to beat the input to be chosen, after what
    `caution` takes off. Stored with the router."""

    alpha: float = 0.1
    """Weight of L_dg, the uncertainty loss (paper 000, eq. 10)."""

    beta: float = 0.01
    """Weight of L_aux, the load-balancing loss (paper 000, eq. 10)."""

    leaf_weight: float = 1.0
    """Weight of the cross-entropy of the leaf against its cluster; not part of `paper`."""

    cap_db: float = 12.0
    """Largest regret in dB that counts: hopeless choices would otherwise drown the close ones. At 6
    twice as many pictures were harmed (docs/LOG.md)."""

    identical_db: float = IDENTICAL_DB
    """PSNR from which on a picture counts as the clean one. At 60 an expert that returns a clean
    picture at 48 dB is charged 12, and faint faults are left alone; at 45 it is charged nothing."""

    num_cost_heads: int = 5
    """Heads that predict the costs; with a fifth held back, each of five holds back another one."""

    caution: float = 1.0
    """Standard deviations of an expert's gain over the heads by which its mean cost is raised: they
    disagree on pictures that are unlike all they were trained on. Stored with the router."""

    num_epochs: int = 30
    """Passes over the training split."""

    held_out_fraction: float = 0.2
    """Share of the samples on which the best pass is chosen."""

    measures: bool = True
    """Whether the heads of costs also read what formulas measure in a picture (`measures.py`):
    JPEG's grid, colours and light. The paper's routers read the embedding alone; gates always
    do. With some hundred pictures to learn from it does not pay (docs/LOG.md)."""

    batch_size: int = 64
    """Samples in each step; at least 2, and one sample that is left over is left out."""

    learning_rate: float = 1e-3
    """Learning rate of Adam at the start (the paper's); it falls as a cosine to 0."""

    weight_decay: float = 0.01
    """Decoupled weight decay; samples are few and the heads are large."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range; it names the field and the value."""
        for name, least in (("num_epochs", 1), ("num_cost_heads", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("learning_rate", "cap_db", "identical_db"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("alpha", "beta", "leaf_weight", "weight_decay", "caution"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0.0 < self.held_out_fraction < 1.0:
            raise ValueError(f"held_out_fraction must lie in (0, 1), got {self.held_out_fraction}")

    @property
    def reads_measures(self) -> bool:
        """Whether routers trained so read measures: only heads of costs do."""
        return self.measures and self.objective == "cost"
