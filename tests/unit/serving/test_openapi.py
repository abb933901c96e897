"""The OpenAPI document against what the endpoint really does."""

import hashlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from expertree.restorer import Restorer
from expertree.serving import HttpConfig, JobLimits, Key, Limits, LocalEngine, create_app

# Schemathesis draws from `random` in a strategy of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

TOKEN = "a-key-of-this-test"

NOT_PROMISED = [
    positive_data_acceptance,  # random bytes are no image, which no schema says
    negative_data_rejection,  # numbers may be text, as they are in forms
]


@pytest.fixture(scope="module")
def schema(restorer: Restorer) -> Any:
    config = HttpConfig(
        keys=(Key(name="alice", sha256=hashlib.sha256(TOKEN.encode()).hexdigest()),),
        limits=Limits(max_pixels=1_000_000),
        jobs=JobLimits(max_jobs=10_000, max_jobs_per_key=10_000),
    )
    return schemathesis.openapi.from_asgi(
        "/openapi.json", create_app(LocalEngine(restorer), config)
    )


@pytest.mark.slow
def test_answers_are_those_that_the_document_describes(schema: Any) -> None:
    num_operations = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        num_operations += 1

        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def hold_against_the_document(case: Any) -> None:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            case.call_and_validate(headers=headers, excluded_checks=NOT_PROMISED)

        hold_against_the_document()
    assert num_operations == 10


def test_the_document_names_every_option_and_problem(ask: Any) -> None:
    document = ask("GET", "/openapi.json").json()
    restore = document["paths"]["/v1/restore"]["post"]
    assert [own["name"] for own in restore["parameters"]] == [
        *("instruction", "confidence", "level", "expert", "insist", "strength", "tile"),
        *("format", "quality", "explain"),
    ]
    assert set(restore["requestBody"]["content"]) == {
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert {"200", "401", "413", "415", "422", "429", "503", "504"} <= set(restore["responses"])
    assert "HTTPValidationError" not in str(document)
    kinds = document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert "/docs#too-many-pixels" in kinds
