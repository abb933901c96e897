"""The restoration networks an expert can be, each behind one config and one descriptor."""

from expertree.experts.backbones.registry import (
    BACKBONES,
    backbone_record,
    build_backbone,
    describe_backbone,
    published_unused,
    resolve_backbone,
    start_at_identity,
)
from expertree.experts.backbones.spec import BackboneConfig, BackboneDescriptor, BackboneSpec

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneDescriptor",
    "BackboneSpec",
    "backbone_record",
    "build_backbone",
    "describe_backbone",
    "published_unused",
    "resolve_backbone",
    "start_at_identity",
]
