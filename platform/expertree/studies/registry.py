"""The list of studies, and the configuration of the job that runs one."""

import dataclasses
from collections.abc import Callable

from expertree.errors import ConfigError
from expertree.storage import Storage
from expertree.studies.accuracy import AccuracyConfig, study_accuracy
from expertree.studies.routing import RoutingConfig, study_routing
from expertree.studies.shift import ShiftConfig, study_shift
from expertree.studies.silhouette import SilhouetteConfig, study_silhouettes
from expertree.studies.tables import Rows, Table, write_tables
from expertree.studies.whole import WholeConfig, study_whole


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """The study to run, and a section of settings for each one."""

    study: str = "silhouette"
    """Name of the study."""

    output: str = "runs/studies"
    """Folder or URI in which rows are kept and tables are written."""

    accuracy: AccuracyConfig = AccuracyConfig()
    silhouette: SilhouetteConfig = SilhouetteConfig()
    routing: RoutingConfig = RoutingConfig()
    shift: ShiftConfig = ShiftConfig()
    whole: WholeConfig = WholeConfig()

    def __post_init__(self) -> None:
        """Raise ConfigError unless the study exists."""
        if self.study not in STUDIES:
            raise ConfigError(f"study='{self.study}' does not exist; there are {list(STUDIES)}")


STUDIES: dict[str, Callable[[StudyConfig, Rows], tuple[Table, ...]]] = {
    "routing": lambda config, rows: study_routing(config.routing, rows),
    "shift": lambda config, rows: study_shift(config.shift, rows),
    "accuracy": lambda config, rows: study_accuracy(config.accuracy, rows),
    "silhouette": lambda config, rows: study_silhouettes(config.silhouette, rows),
    "whole": lambda config, rows: study_whole(config.whole, rows),
}


def run_study(config: StudyConfig, say: Callable[[str], None]) -> str:
    """Run a study; rows that an earlier run left are not made again.

    Args:
        config: The study and its settings.
        say: Called with a line of text for each row.

    Returns:
        Its tables as Markdown; they are also in the output folder, as `<study>.md` and `.json`.

    Raises:
        ExpertreeError: In one sentence, what is wrong and what to do.
    """
    output = Storage.open(config.output)
    output.check_writable()
    tables = STUDIES[config.study](config, Rows(output.sub("rows", config.study), say))
    return write_tables(output, config.study, tables)
