"""Experts: the networks, the samples they read, one expert's training loop, and its scores.

Start with `train_expert`; `backbones.build_backbone` makes the network.
"""

from expertree.experts.adapter import AdapterConfig
from expertree.experts.backbones import BackboneConfig
from expertree.experts.patches import PairedPatches, read_patches
from expertree.experts.published import PublishedWeights
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.scoring import Restoration, score_expert, score_inputs, score_restoration
from expertree.experts.training import train_expert
from expertree.experts.weights import load_expert

__all__ = [
    "AdapterConfig",
    "BackboneConfig",
    "ExpertJob",
    "PairedPatches",
    "PublishedWeights",
    "RecipeConfig",
    "Restoration",
    "load_expert",
    "read_patches",
    "score_expert",
    "score_inputs",
    "score_restoration",
    "train_expert",
]
