"""What every test gets: an environment in which no test can meet anybody else's Ray or W&B."""

import os
import secrets

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
