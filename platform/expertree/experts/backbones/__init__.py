"""The restoration networks an expert can be, each behind one config and one descriptor."""

from expertree.experts.backbones.registry import (
    BACKBONES,
    build_backbone,
    check_backbone,
    describe_backbone,
)
from expertree.experts.backbones.spec import BackboneConfig, BackboneDescriptor, BackboneSpec

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneDescriptor",
    "BackboneSpec",
    "build_backbone",
    "check_backbone",
    "describe_backbone",
]
