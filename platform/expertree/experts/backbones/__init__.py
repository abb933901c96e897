"""The restoration networks an expert can be, each behind one config and one descriptor."""

from expertree.experts.backbones.registry import (
    BACKBONES,
    PRESETS,
    Backbone,
    backbone_config,
    build_backbone,
    chooses,
    describe_backbone,
    needs_of,
    objective_of,
    phases_of,
    published_beyond,
    published_unused,
    start_at_identity,
)
from expertree.experts.backbones.spec import (
    ONE_PHASE,
    BackboneConfig,
    BackboneDescriptor,
    BackboneSpec,
    Norm,
    Objective,
    Phase,
)

__all__ = [
    "BACKBONES",
    "ONE_PHASE",
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
    "chooses",
    "describe_backbone",
    "needs_of",
    "objective_of",
    "phases_of",
    "published_beyond",
    "published_unused",
    "start_at_identity",
]
