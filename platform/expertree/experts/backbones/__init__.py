"""The restoration networks an expert can be, each behind one config and one descriptor."""

from expertree.experts.backbones.registry import (
    BACKBONES,
    backbone_record,
    build_backbone,
    describe_backbone,
    objective_of,
    published_unused,
    resolve_backbone,
    start_at_identity,
)
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneDescriptor,
    BackboneSpec,
    Objective,
)

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneDescriptor",
    "BackboneSpec",
    "Objective",
    "backbone_record",
    "build_backbone",
    "describe_backbone",
    "objective_of",
    "published_unused",
    "resolve_backbone",
    "start_at_identity",
]
