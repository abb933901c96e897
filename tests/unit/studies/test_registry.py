import pytest

from expertree.config import all_keys, load
from expertree.errors import ConfigError
from expertree.studies.registry import STUDIES, StudyConfig


def test_an_unknown_study_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"study='speed' does not exist; .*silhouette"):
        load(StudyConfig, {"study": "speed"})


def test_every_study_has_a_section_of_its_name() -> None:
    assert set(STUDIES) <= set(all_keys(StudyConfig))
