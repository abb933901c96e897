"""Run one study; its tables are printed, and written as Markdown and JSON.

expertree study study=accuracy accuracy.train=/data/train accuracy.validate=/data/val
expertree study study=silhouette silhouette.embeddings=runs/demo
expertree study study=silhouette silhouette.embeddings=runs/store/embed/0d221d89828d6e04222e
"""

import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb
from expertree.studies.registry import STUDIES, StudyConfig, run_study

VERB = SettingsVerb(
    name="study",
    text=__doc__ or "",
    cls=StudyConfig,
    config_name="study",
    values={"study": tuple(STUDIES)},
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, run the study, print its tables and return the exit code."""
    return run_verb(arguments, VERB, _study)


def _study(config: StudyConfig) -> int:
    sys.stdout.write(run_study(config, say=_say))
    return EXIT_DONE


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
