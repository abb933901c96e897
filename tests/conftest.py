"""What every test gets: Ray and W&B that are nobody else's, and signatures that are checked."""

import os
import secrets

from jaxtyping import install_import_hook

from expertree.testing import check_arrays

# Before the first `import ray`, which reads some of them once: clusters of tests have a token of
# their own, never the one in the home directory, and no driver joins a cluster that is running.
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_MODE": "offline",
}

# Before the first import of these: their functions' arrays are held against their signatures.
# Not orchestration: Ray sends its functions to workers, which know nothing of the hook.
CHECKED = (
    *("images", "degradation", "datasets", "embedding", "hierarchy", "experts", "routing"),
    *("restorer", "evaluation"),
)
install_import_hook(
    [f"expertree.{name}" for name in CHECKED],
    f"{check_arrays.__module__}.{check_arrays.__name__}",
)
