"""Experts: the networks, the samples they read, one expert's training loop, and its scores.

Start with `training.train_expert`; `backbones.build_backbone` makes the network.
"""
