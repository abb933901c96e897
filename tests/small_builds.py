"""A configuration of builds that take seconds in one process."""

from typing import Any

SMALL: dict[str, Any] = {
    "degradation": {
        "patch_px": 32,
        "num_train": 60,
        "num_extractor": 60,
        "num_route": 30,
        "num_val_in": 12,
        "num_val_out": 12,
        "num_val_clean": 4,
        "num_shift": 0,
        "tasks": ["noise", "blur"],
    },
    "extractor": {
        "clip": {"image_tower": "test_resnet"},
        "view_px": 32,
        "recipe": {"num_steps": 6, "crop_px": 32, "num_threads": 1},
    },
    "hierarchy": {"groups": [1, 2]},
    "experts": {
        "backbone": {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
        "recipe": {"patch_px": 32},
        "num_samples": [40, 20],
    },
    "router": {"num_epochs": 3},
    "num_examples": 1,
}
