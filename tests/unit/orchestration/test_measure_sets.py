"""What is told of workers that cannot measure public sets; no cluster is started here."""

from types import SimpleNamespace
from typing import Any

import pytest

from expertree.errors import DatasetError, ResourceError
from expertree.orchestration import measure_sets
from expertree.orchestration.measure_sets import _result_of, _Worker
from expertree.public_sets.plan import Item
from expertree.restorer.on_dataset import EvaluateConfig


def failing(error: Exception) -> SimpleNamespace:
    def get(_: object) -> None:
        raise error

    return SimpleNamespace(get=get)


def test_a_worker_that_cannot_open_the_bundle_says_why(tmp_path: Any) -> None:
    worker = _Worker(EvaluateConfig(bundle=str(tmp_path / "nothing"), device="none"))
    item: Any = Item(key="", dataset="", split="", pair=None, protocols=(), classical=False)  # type: ignore[arg-type]
    with pytest.raises(ResourceError, match=r"cannot begin: .*nothing.* is not a bundle"):
        worker.measure(item)


def test_the_death_of_a_worker_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    died = measure_sets.RayError("The actor died unexpectedly\nTraceback ...")
    monkeypatch.setattr(measure_sets, "ray", failing(died))
    with pytest.raises(ResourceError, match=r"was lost: The actor died unexpectedly; start this"):
        _result_of(None)


def test_the_error_of_an_image_comes_without_the_traceback_of_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cause = DatasetError("'a.png' cannot be read")
    raised = measure_sets.RayTaskError("measure", "Traceback ...", cause)
    monkeypatch.setattr(measure_sets, "ray", failing(raised.as_instanceof_cause()))
    with pytest.raises(DatasetError) as caught:
        _result_of(None)
    assert caught.value is cause
