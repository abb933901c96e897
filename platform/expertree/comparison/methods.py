"""The methods that can be compared, and those that go by a name."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator

from expertree.experts import AdapterConfig
from expertree.experts.backbones import Backbone, backbone_config


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """One method: a row of the tables.

    Attributes:
        name: Name of its row.
        tree: Whether it is a tree of experts (`hierarchy`, `experts.num_samples`), and not one
            network that is trained on everything.
        backbone: The network; null for `experts.backbone`.
        adapter: Null for experts that are whole networks, else adapters on the root.
        choice: How a tree chooses an expert: `router`, trained, which may leave an image as it is;
            or `nearest`, the leaf with the nearest centroid.
        told: Whether it is told by name what is wrong with each image.
        rate: Factor on the recipe's learning rates.
    """

    name: str
    tree: bool = False
    backbone: Backbone | None = None
    adapter: AdapterConfig | None = None
    choice: Literal["router", "nearest"] = "router"
    told: bool = False
    rate: float = 1.0

    @property
    def folder(self) -> str:
        """The name as that of a folder, of its bundle for one."""
        return re.sub(r"[^a-z0-9.]+", "_", self.name.lower()).strip("_.") or "method"

    def __post_init__(self) -> None:
        """Raise ValueError for a choice that cannot be; it names the method."""
        if not self.name:
            raise ValueError("a method needs a name")
        if not self.rate > 0:
            raise ValueError(f"rate of {self.name} must be positive, got {self.rate}")
        if not self.tree and (self.adapter is not None or self.choice != "router"):
            raise ValueError(f"{self.name}: only a tree has an adapter or a choice; set tree: true")
        sentences = self.backbone is not None and self.backbone.sentence_encoder is not None
        if self.told and (self.tree or not sentences):
            raise ValueError(
                f"{self.name}: only one network that takes sentences, such as instructir, can be "
                "told what is wrong"
            )


_ONE = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1)}
_RESTORMER = {"width": 8, "encoder": (1, 1, 2), "middle": 2, "decoder": (2, 1, 1), "refinement": 1}
_PROMPTIR = {
    **_ONE,
    "width": 8,
    "refinement": 1,
    "expansion": 2.0,
    "prompt_widths": (56, 24, 8),
    "prompt_px": (8, 16, 32),
}

METHODS: Mapping[str, MethodConfig] = {
    "tree": MethodConfig(name="tree", tree=True),
    "tree_nearest": MethodConfig(name="tree, nearest centroid", tree=True, choice="nearest"),
    "tree_lora": MethodConfig(name="tree of adapters", tree=True, adapter=AdapterConfig()),
    "one_network": MethodConfig(name="one network"),
    "nafnet": MethodConfig(name="NAFNet", backbone=backbone_config("nafnet", width=20, **_ONE)),
    "restormer": MethodConfig(
        name="Restormer", backbone=backbone_config("restormer", **_RESTORMER)
    ),
    "promptir": MethodConfig(name="PromptIR", backbone=backbone_config("promptir", **_PROMPTIR)),
    "adair": MethodConfig(name="AdaIR", backbone=backbone_config("adair_small")),
    "airnet": MethodConfig(name="AirNet", backbone=backbone_config("airnet_small")),
    "moce_ir": MethodConfig(name="MoCE-IR", backbone=backbone_config("moce_ir_small")),
    "moce_ir_output": MethodConfig(
        name="MoCE-IR, gate on output",
        backbone=backbone_config("moce_ir_small", gate="output"),
    ),
    "sler_ir": MethodConfig(name="SLER-IR", backbone=backbone_config("sler_ir_small")),
    "lora_ir": MethodConfig(name="LoRA-IR", backbone=backbone_config("lora_ir_small")),
    "instructir": MethodConfig(name="InstructIR", backbone=backbone_config("instructir_small")),
    "instructir_told": MethodConfig(
        name="InstructIR, told", backbone=backbone_config("instructir_small"), told=True
    ),
}
"""Methods by the names that stand for them. The networks are small, of about 6.4 billion
multiply-adds at 512 x 512 px each, for a processor to train; the papers' own sizes are given as
`{name: ..., backbone: {name: moce_ir}}`."""


def named(method: object) -> object:
    """Return the method that a name stands for; what is no name as it is.

    Raises:
        ValueError: If there is none of this name.
    """
    if not isinstance(method, str):
        return method
    if method not in METHODS:
        raise ValueError(f"there is no method '{method}'; there are {', '.join(METHODS)}")
    return METHODS[method]


Method = Annotated[MethodConfig, BeforeValidator(named)]
"""A method in a configuration: a name of `METHODS`, or the fields of one."""
