import json
from pathlib import Path

from pydantic import TypeAdapter

from expertree.search.record import Search

EXAMPLE = Path(__file__).parent / "example_search.json"


def test_the_example_that_reports_are_tested_with_is_a_record() -> None:
    record = TypeAdapter(Search).validate_python(json.loads(EXAMPLE.read_text()))
    numbers = {trial["number"] for trial in record["trials"]}
    assert set(record["pareto"]) <= numbers
    assert {key for trial in record["trials"] for key in trial["experts"]} == {
        expert["key"] for expert in record["experts"]
    }
