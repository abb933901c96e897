"""Run one benchmark; its last line is one JSON object.

python jobs/bench.py bench=overhead
python jobs/bench.py bench=degrade degrade.size_px=512
python jobs/bench.py bench=shard shard.num_patches=5000
python jobs/bench.py bench=cluster
python jobs/bench.py bench=switch switch.backbone.name=litenaf
"""

import json
import sys

import hydra
from omegaconf import DictConfig

from expertree.benchmarks.registry import BENCHMARKS, BenchConfig
from expertree.orchestration.command import prepare_hydra, run_job


@hydra.main(version_base="1.3", config_path="conf", config_name="bench")
def main(config: DictConfig) -> None:
    """Compose the configuration, run, print."""
    run_job(config, BenchConfig, run)


def run(config: BenchConfig) -> int:
    """Run the benchmark and print what it found."""
    sys.stdout.write(json.dumps(BENCHMARKS[config.bench](config)) + "\n")
    return 0


if __name__ == "__main__":
    prepare_hydra(BenchConfig(), "bench_defaults")
    main()
