"""Run one study; its tables are printed and written as Markdown and JSON.

python jobs/study.py study=accuracy accuracy.train=/data/train accuracy.validate=/data/val
python jobs/study.py study=silhouette silhouette.embeddings=runs/demo
python jobs/study.py study=silhouette silhouette.embeddings=runs/store/embed/0d221d89828d6e04222e
"""

import sys

import hydra
from omegaconf import DictConfig

from expertree.orchestration.command import prepare_hydra, run_job
from expertree.studies.registry import StudyConfig, run_study


@hydra.main(version_base="1.3", config_path="conf", config_name="study")
def main(config: DictConfig) -> None:
    """Compose the configuration, run, print."""
    run_job(config, StudyConfig, run)


def run(config: StudyConfig) -> int:
    """Run the study and print its tables."""
    sys.stdout.write(run_study(config, say=lambda line: print(line, file=sys.stderr)))
    return 0


if __name__ == "__main__":
    prepare_hydra(StudyConfig(), "study_defaults")
    main()
