"""Measure a bundle on a data set: degraded against routed, under the set's protocol.

python jobs/evaluate.py bundle=runs/demo/bundle dataset=rain100l root=/data/Rain100L
python jobs/evaluate.py bundle=runs/demo/bundle dataset=cbsd68 root=/data/CBSD68 split=noise50 \
    output=runs/demo/cbsd68_noise50.json
"""

import sys

import hydra
from omegaconf import DictConfig

from expertree.datasets import table_of
from expertree.orchestration.command import prepare_hydra, run_job
from expertree.restorer.on_dataset import EvaluateConfig, evaluate_bundle


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    """Compose the configuration, measure, print."""
    run_job(config, EvaluateConfig, run)


def run(config: EvaluateConfig) -> int:
    """Restore the images, with a line for each on standard error, and print the table."""
    result = evaluate_bundle(config, on_image=say)
    sys.stdout.write(table_of(result) + "\n")
    return 0


def say(number: int, total: int, name: str) -> None:
    """Say how far it is."""
    sys.stderr.write(f"{number}/{total} {name}\n")


if __name__ == "__main__":
    prepare_hydra(EvaluateConfig(), "evaluate_defaults")
    main()
