"""The restoration networks an expert can be, each behind one config and one descriptor."""

from expertree.experts.backbones.registry import (
    BACKBONES,
    PRESETS,
    Backbone,
    backbone_config,
    build_backbone,
    describe_backbone,
    needs_of,
    objective_of,
    phases_of,
    published_unused,
    start_at_identity,
)
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneDescriptor,
    BackboneSpec,
    Norm,
    Objective,
    Phase,
)

__all__ = [
    "BACKBONES",
    "PRESETS",
    "Backbone",
    "BackboneConfig",
    "BackboneDescriptor",
    "BackboneSpec",
    "Norm",
    "Objective",
    "Phase",
    "backbone_config",
    "build_backbone",
    "describe_backbone",
    "needs_of",
    "objective_of",
    "phases_of",
    "published_unused",
    "start_at_identity",
]
