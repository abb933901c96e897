"""The engine in one process: the restorer's images, work that stops, and a full queue."""

import asyncio
import pickle
import threading

import numpy as np
import pytest

from expertree.errors import MemoryShortageError, OptionError, OverloadError
from expertree.images.io import to_float
from expertree.restorer import Restorer
from expertree.routing import AUTOMATIC, Wish
from expertree.serving import LocalEngine
from photographs import random_u8
from scarce import KINDS, run_out_of_memory


def test_its_images_and_routes_are_those_of_the_restorer(restorer: Restorer) -> None:
    image = random_u8(40, 50)
    expected = restorer.restore(image, Wish(confidence=2, instruction=["rain"]))
    options = Wish(confidence=2, instruction=("rain",))
    answer = asyncio.run(LocalEngine(restorer).restore(image, options))
    assert np.array_equal(answer.pixels, expected.image)
    assert answer.route.expert == expected.route.expert
    assert answer.route.path == restorer.tree.path(answer.route.leaf)
    assert answer.route.model == restorer.bundle.manifest.digest
    assert set(answer.seconds) == {"queue", "route", "restore"}
    assert pickle.loads(pickle.dumps(answer)).route == answer.route


def test_float_pixels_keep_what_is_between_grey_levels(restorer: Restorer) -> None:
    tensor = to_float(random_u8(20, 30))
    exact = np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())
    answer = asyncio.run(LocalEngine(restorer).restore(exact, AUTOMATIC))
    expected = restorer.restore(tensor).image.permute(1, 2, 0).numpy()
    assert np.array_equal(answer.pixels, expected)


def test_the_model_says_what_its_groups_hold(restorer: Restorer) -> None:
    (model,) = asyncio.run(LocalEngine(restorer, model_id="tiny").models())
    assert model.id == "tiny"
    assert [expert.node for expert in model.experts] == list(restorer.tree.experts())
    assert sum(model.nodes[0].holds.values()) == pytest.approx(1.0, abs=1e-3)
    for leaf, name in enumerate(restorer.bundle.guide.names):
        assert model.nodes[len(model.nodes) - len(model.names) + leaf].holds[name] == 1.0


def test_alternatives_are_all_other_experts_by_what_the_gates_give_them(restorer: Restorer) -> None:
    routed = asyncio.run(LocalEngine(restorer).route(random_u8(30, 30), AUTOMATIC))
    nodes = [other.expert for other in routed.alternatives]
    assert {routed.expert, *nodes} == set(restorer.tree.experts())
    probabilities = [other.probability for other in routed.alternatives]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) + routed.confidence == pytest.approx(1.0, abs=1e-3)


def test_options_that_the_model_does_not_have_are_the_callers_mistake(restorer: Restorer) -> None:
    engine = LocalEngine(restorer)
    for options in (Wish(level=9), Wish(expert=99), Wish(instruction=("fog",))):
        with pytest.raises(OptionError):
            asyncio.run(engine.restore(random_u8(8, 8), options))


def test_a_caller_who_leaves_stops_the_work_between_tiles(restorer: Restorer) -> None:
    engine = LocalEngine(restorer)
    seen: list[tuple[int, int]] = []
    second = threading.Event()
    pixels = random_u8(300, 300)
    restore = restorer.restore

    async def leave() -> None:
        task = asyncio.current_task()
        assert task is not None

        def on_tile(done: int, total: int) -> None:
            seen.append((done, total))
            if done == 2:
                second.set()
                task.cancel()

        await engine.restore(pixels, Wish(tile_px=72), on_tile=on_tile)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    engine.close()  # waits for the thread
    assert second.is_set()
    assert seen[-1][0] < seen[-1][1] == restore(pixels, Wish(tile_px=72)).num_tiles


def test_one_too_many_is_refused_and_the_others_are_answered(restorer: Restorer) -> None:
    engine = LocalEngine(restorer, max_queued=1)

    async def three() -> list[object]:
        calls = (engine.route(random_u8(9, 9), AUTOMATIC) for _ in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(three())
    refused = [answer for answer in answers if isinstance(answer, OverloadError)]
    assert len(refused) == 1
    again = pickle.loads(pickle.dumps(refused[0]))
    assert (str(again), again.retry_after_s) == (str(refused[0]), refused[0].retry_after_s)
    assert asyncio.run(engine.route(random_u8(9, 9), AUTOMATIC))


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_memory_has_a_name(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        run_out_of_memory(kind)

    monkeypatch.setattr(restorer, "restore", fail)
    with pytest.raises(MemoryShortageError, match="tile=auto"):
        asyncio.run(LocalEngine(restorer).restore(random_u8(9, 9), AUTOMATIC))
