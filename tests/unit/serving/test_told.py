"""Networks that are told of the whole image: on replicas the images of `Restorer`, to the bit."""

import asyncio
import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expertree import Restorer
from expertree.errors import ConfigError, MemoryShortageError
from expertree.experts.conditions import WINDOW
from expertree.images.io import decode_u8, encode_png
from expertree.routing import AUTOMATIC, Wish
from expertree.serving import HttpConfig, create_app
from expertree.serving.replica_work import Tile, TileWorker
from photographs import random_u8
from replicas import Replicas, engine_of
from scarce import run_out_of_memory
from told import SLER, TOLD, single, told_restorer

WORDS = "take the rain off, please"


@pytest.fixture(scope="module", params=TOLD)
def restorer(request: pytest.FixtureRequest, told_bundle: Callable[[str], Path]) -> Restorer:
    return Restorer.load(told_bundle(request.param))


@pytest.fixture(scope="module")
def instructed(told_bundle: Callable[[str], Path]) -> Restorer:
    return Restorer.load(told_bundle("instructir"))


@pytest.mark.parametrize(
    "wish", [Wish(expert=0), Wish(expert=0, tile_px=96)], ids=["whole", "tiled"]
)
def test_replicas_give_the_restorers_image_to_the_bit(restorer: Restorer, wish: Wish) -> None:
    image, replicas = random_u8(150, 201), Replicas(restorer)
    expected = restorer.restore(image, wish)
    restored = asyncio.run(engine_of(replicas, restorer).restore(image, wish))
    assert restored.num_tiles == expected.num_tiles
    assert np.array_equal(restored.pixels, expected.image)
    assert restored.layers == expected.layers
    layers = {"sler_ir": 8, "lora_ir": 1}
    assert len(restored.layers) == layers.get(restorer.bundle.backbone(0).name, 0)
    assert all(sum(shares) == pytest.approx(1.0) for shares in restored.layers)
    wanted = {*restorer.bundle.seen, WINDOW}
    assert all(set(tile.told) == wanted for tile in replicas.tiles)
    windows = {tuple(tile.told[WINDOW][0]) for tile in replicas.tiles}
    assert len(windows) == expected.num_tiles


@pytest.mark.parametrize(
    "wish",
    [Wish(words=WORDS), Wish(instruction=("rain",)), Wish(instruction=("rain",), words=WORDS)],
    ids=["words", "names", "both"],
)
def test_what_is_said_reaches_a_network_on_replicas(instructed: Restorer, wish: Wish) -> None:
    image, replicas = random_u8(70, 60), Replicas(instructed)
    engine = engine_of(replicas, instructed)
    restored = asyncio.run(engine.restore(image, wish))
    assert "sentence" in replicas.tiles[0].told
    assert np.array_equal(restored.pixels, instructed.restore(image, wish).image)
    (expert,) = {tile.expert for tile in replicas.tiles}
    unsaid = asyncio.run(engine.restore(image, Wish(expert=expert)))
    assert not np.array_equal(restored.pixels, unsaid.pixels)


def test_only_networks_that_see_more_than_the_view_get_the_whole_image(restorer: Restorer) -> None:
    engine = engine_of(Replicas(restorer), restorer)
    assert engine.current is not None
    assert engine.current.looks_at_all == (restorer.bundle.backbone(0).name != "instructir")


def test_an_image_that_is_only_routed_is_not_told_of(restorer: Restorer) -> None:
    replicas, asked = Replicas(restorer), []
    judge = replicas.judging.judge
    replicas.judging.judge = lambda requests: asked.extend(requests) or judge(requests)
    asyncio.run(engine_of(replicas, restorer).route(random_u8(80, 90), AUTOMATIC))
    assert [(own.tells, own.whole) for own in asked] == [(False, None)]
    assert judge(asked)[0].told == {}


def told_tiles(restorer: Restorer, wishes: list[Wish]) -> list[Tile]:
    """A tile of another image for each wish, as gateways send them."""
    replicas = Replicas(restorer)
    for number, wish in enumerate(wishes):
        image = random_u8(48, 48) // (number + 1)
        asyncio.run(engine_of(replicas, restorer).restore(image, wish))
    return replicas.tiles


def test_tiles_that_are_told_different_things_go_through_a_network_together(
    restorer: Restorer,
) -> None:
    tiles, worker = told_tiles(restorer, [Wish(expert=0)] * 3), TileWorker(restorer)
    assert len({tile.group for tile in tiles}) == 1
    assert not np.array_equal(tiles[0].told["embedding"], tiles[1].told["embedding"])
    for one, tile in zip(worker.run(tiles), tiles, strict=True):
        (alone,) = worker.run([tile])
        assert np.abs(one.pixels.astype(int) - alone.pixels).max() <= 1
    swapped = dataclasses.replace(tiles[0], told=tiles[2].told)
    assert not np.array_equal(worker.run([swapped])[0].pixels, worker.run(tiles[:1])[0].pixels)


def test_tiles_with_and_without_a_sentence_are_groups_of_their_own(instructed: Restorer) -> None:
    wishes = [Wish(expert=0), Wish(expert=0, words=WORDS), Wish(expert=0, words="remove the haze")]
    plain, rain, haze = told_tiles(instructed, wishes)
    assert plain.group != rain.group == haze.group
    worker = TileWorker(instructed)
    together = worker.run([rain, haze])
    for one, tile in zip(together, [rain, haze], strict=True):
        assert np.abs(one.pixels.astype(int) - worker.run([tile])[0].pixels).max() <= 1


def test_every_expert_passes_the_test_of_a_replica(restorer: Restorer) -> None:
    replicas = Replicas(restorer)
    replicas.judging.test()
    for node in restorer.tree.experts():
        replicas.worker.test(node)


def test_a_replica_without_the_encoder_of_sentences_says_what_to_install(
    instructed: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> Any:
        raise ConfigError("install expertree[text]")

    monkeypatch.setattr("expertree.restorer.bundle.load_reader", missing)
    with pytest.raises(ConfigError, match=r"expertree\[text\]"):
        Replicas(instructed).judging.test()


def test_an_image_too_large_to_look_at_is_told_so(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        run_out_of_memory("cpu")

    monkeypatch.setattr(restorer, "tell", short)
    engine = engine_of(Replicas(restorer), restorer)
    with pytest.raises(MemoryShortageError, match="look at all of the image"):
        asyncio.run(engine.restore(random_u8(48, 48), Wish(expert=0)))


@pytest.fixture
def ask(asker: Callable[[Any], Any], instructed: Restorer) -> Any:
    """Asks an application whose images go to replicas."""
    return asker(create_app(engine_of(Replicas(instructed), instructed), HttpConfig()))


def test_an_instruction_by_http_is_the_callers_own_words(ask: Any, instructed: Restorer) -> None:
    image = random_u8(60, 44)
    answer = ask("GET", "/v1/models").json()
    assert answer["free_text"]
    assert answer["models"][0]["takes_sentences"]
    for said in (WORDS, "something else entirely", "rain"):
        got = ask("POST", "/v1/restore", params={"instruction": said}, content=encode_png(image))
        expected = instructed.restore(image, Wish(words=said)).image
        assert np.array_equal(decode_u8(got.content), expected), said


def test_where_a_text_model_reads_what_is_meant_the_words_are_said_all_the_same(
    asker: Callable[[Any], Any], instructed: Restorer
) -> None:
    app = create_app(
        engine_of(Replicas(instructed), instructed), HttpConfig(), read_text=lambda *_: ("haze",)
    )
    image, wish = random_u8(60, 44), Wish(instruction=("haze",), words=WORDS)
    got = asker(app)(
        "POST", "/v1/restore", params={"instruction": WORDS}, content=encode_png(image)
    )
    assert np.array_equal(decode_u8(got.content), instructed.restore(image, wish).image)


def test_one_network_without_a_tree_is_served_and_says_what_its_layers_chose(
    asker: Callable[[Any], Any], parts: Any, tmp_path: Path
) -> None:
    restorer = told_restorer(single(parts, tmp_path), tmp_path, SLER)
    ask = asker(create_app(engine_of(Replicas(restorer), restorer), HttpConfig()))
    (model,) = ask("GET", "/v1/models").json()["models"]
    assert [len(model[name]) for name in ("groups", "nodes", "experts")] == [1, 1, 1]
    image = random_u8(60, 44)
    headers = {"Accept": "application/json"}
    answer = ask("POST", "/v1/restore", content=encode_png(image), headers=headers).json()
    expected = restorer.restore(image)
    assert np.array_equal(decode_u8(base64.b64decode(answer["image"])), expected.image)
    assert answer["layers"] == [list(shares) for shares in expected.layers]
    assert answer["route"]["alternatives"] == []
