"""The assembled model: routes, sizes, types, tiles, and life without Ray."""

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from expertree import Restorer
from expertree.errors import ArtefactError
from expertree.images.io import to_float, to_u8
from expertree.restorer import restorer as module
from expertree.restorer.manifest import MANIFEST
from expertree.restorer.per_tile import restore_per_tile
from expertree.routing import Wish
from scarce import KINDS, run_out_of_memory

NETWORK_ATOL = 0.5 / 255
"""Half a grey level; see test_tiling."""


@pytest.fixture(scope="module")
def restorer(bundle_path: Path) -> Restorer:
    return Restorer.load(bundle_path)


def random_u8(height_px: int, width_px: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height_px", "width_px"), [(1, 1), (1, 40), (2, 3), (17, 5), (63, 64), (129, 95)]
)
def test_any_size_is_restored_to_its_size_and_type(
    restorer: Restorer, height_px: int, width_px: int
) -> None:
    image = random_u8(height_px, width_px)
    before = image.copy()
    restored = restorer.restore(image).image
    assert restored.shape == image.shape
    assert restored.dtype == np.uint8
    assert np.array_equal(image, before)


def test_the_image_is_what_the_chosen_expert_makes_of_it(restorer: Restorer) -> None:
    image = random_u8(40, 50)
    restoration = restorer.restore(image)
    expert = restorer.bundle.load_expert(restoration.route.expert)
    with torch.inference_mode():
        expected = to_u8(expert(to_float(image)[None])[0])
    assert np.array_equal(restoration.image, expected)
    assert restoration.num_tiles == 1
    assert restoration.route == restorer.route(image)


def test_different_images_take_different_routes(restorer: Restorer) -> None:
    images = [random_u8(64, 64) // divisor + offset for divisor in (1, 2, 8) for offset in (0, 100)]
    assert len({restorer.route(image).expert for image in images}) > 1


def test_every_expert_and_level_can_be_asked_for(restorer: Restorer) -> None:
    image = random_u8(33, 33)
    results = {}
    for expert in restorer.tree.experts():
        restoration = restorer.restore(image, Wish(expert=expert))
        assert restoration.route.expert == expert
        results[expert] = restoration.image.tobytes()
    assert len(set(results.values())) == len(results)
    for level in range(restorer.tree.num_levels):
        assert restorer.restore(image, Wish(level=level)).route.level == level


def test_an_instruction_chooses_among_the_leaves_that_hold_what_it_names(
    restorer: Restorer,
) -> None:
    image = random_u8(33, 33)
    for leaf, name in enumerate(restorer.bundle.guide.names):
        assert restorer.route(image, Wish(instruction=[name])).leaf == leaf
        assert restorer.restore(image, Wish(instruction=[name])).route.leaf == leaf


def test_an_instruction_that_names_nothing_known_lists_what_is(restorer: Restorer) -> None:
    with pytest.raises(ValueError, match="unknown degradation 'fog'; this model knows haze, noise"):
        restorer.route(random_u8(33, 33), Wish(instruction=["haze", "fog"]))


def test_a_confidence_picks_the_level(restorer: Restorer) -> None:
    image = random_u8(33, 33)
    for confidence in (0, 1, 2):
        route = restorer.route(image, Wish(instruction=["rain"], confidence=confidence))
        assert (route.leaf, route.level) == (2, confidence)
    with pytest.raises(ValueError, match="confidence must be 0, 1 or 2, got 3"):
        restorer.route(image, Wish(confidence=3))
    with pytest.raises(ValueError, match="give one"):
        restorer.restore(image, Wish(confidence=1, level=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("batched", [False, True])
def test_float_tensors_come_back_as_they_went_in(
    restorer: Restorer, dtype: torch.dtype, batched: bool
) -> None:
    image_u8 = random_u8(30, 20)
    image = to_float(image_u8).to(dtype)
    if batched:
        image = image[None]
    before = image.clone()
    restored = restorer.restore(image).image
    assert restored.shape == image.shape
    assert restored.dtype == dtype
    assert 0.0 <= restored.min() <= restored.max() <= 1.0
    assert torch.equal(image, before)
    if dtype == torch.float32:
        plain = restored[0] if batched else restored
        assert np.array_equal(to_u8(plain), restorer.restore(image_u8).image)


def test_a_restored_tensor_may_be_changed_and_differentiated(restorer: Restorer) -> None:
    restored = restorer.restore(torch.rand(3, 16, 16)).image
    restored += 1.0
    weight = torch.ones((), requires_grad=True)
    (weight * restored).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("overlap_px", [16, 32])
def test_tiles_give_the_same_image_as_the_whole(restorer: Restorer, overlap_px: int) -> None:
    image = torch.rand(3, 150, 201, generator=torch.Generator().manual_seed(0))
    whole = restorer.restore(image, Wish(tile_px=0))
    tiled = restorer.restore(image, Wish(tile_px=96), overlap_px=overlap_px)
    assert whole.num_tiles == 1
    assert tiled.num_tiles > 1
    assert tiled.route == whole.route
    torch.testing.assert_close(tiled.image, whole.image, rtol=0, atol=NETWORK_ATOL)


def on_a_small_device(
    restorer: Restorer, largest_px: int, monkeypatch: pytest.MonkeyPatch, kind: str = "gpu"
) -> tuple[Restorer, list[int]]:
    """The same bundle where memory runs out above a size, and the sides that were tried."""
    load_expert, tried = restorer.bundle.load_expert, []

    def limited(node: int) -> torch.nn.Module:
        expert = load_expert(node)

        def check(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tried.append(max(inputs[0].shape[-2:]))
            if tried[-1] > largest_px:
                run_out_of_memory(kind)

        expert.register_forward_pre_hook(check)
        return expert

    monkeypatch.setattr(module.Bundle, "load_expert", lambda _, node: limited(node))
    return Restorer(restorer.bundle), tried


@pytest.mark.parametrize("kind", KINDS)
def test_automatic_tiles_shrink_while_memory_runs_out(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    restorer = Restorer.load(bundle_path)
    image = torch.rand(3, 200, 260, generator=torch.Generator().manual_seed(0))
    expected = restorer.restore(image, Wish(tile_px=0)).image
    small, tried = on_a_small_device(restorer, 100, monkeypatch, kind)
    restoration = small.restore(image)
    assert tried[0] == 260
    assert restoration.num_retries == 2
    assert max(tried[-restoration.num_tiles :]) <= 100
    torch.testing.assert_close(restoration.image, expected, rtol=0, atol=NETWORK_ATOL)
    with pytest.raises((RuntimeError, MemoryError), match=r"allocate"):
        small.restore(image, Wish(tile_px=128))


def test_memory_that_runs_out_at_512_ends_at_256_with_the_same_image(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = Restorer.load(bundle_path)
    image = torch.rand(3, 512, 384, generator=torch.Generator().manual_seed(0))
    whole = restorer.restore(image, Wish(tile_px=0)).image
    tiled = restorer.restore(image, Wish(tile_px=256))
    small, tried = on_a_small_device(restorer, 511, monkeypatch)
    restoration = small.restore(image)
    assert tried[0] == 512
    assert max(tried[1:]) <= 256
    assert (restoration.num_retries, restoration.num_tiles) == (1, tiled.num_tiles)
    assert torch.equal(restoration.image, tiled.image)
    torch.testing.assert_close(restoration.image, whole, rtol=0, atol=NETWORK_ATOL)


def test_progress_is_told_by_tile(restorer: Restorer) -> None:
    seen: list[tuple[int, int]] = []
    restoration = restorer.restore(
        random_u8(100, 100), Wish(tile_px=72), on_tile=lambda *counts: seen.append(counts)
    )
    total = restoration.num_tiles
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_an_expert_that_is_asked_for_restores_as_it_does_when_chosen(restorer: Restorer) -> None:
    image = random_u8(40, 50)
    restoration = restorer.restore(image)
    asked = restorer.restore(image, Wish(expert=restoration.route.expert))
    assert np.array_equal(asked.image, restoration.image)


def test_seconds_are_told_by_stage(careful: Restorer, two_kinds: tuple[np.ndarray, ...]) -> None:
    spoiled, good = two_kinds
    assert set(careful.restore(spoiled).seconds) == {"route", "restore"}
    assert set(careful.restore(good).seconds) == {"route"}


def test_experts_compute_in_another_type_and_the_choice_stays_the_same(
    restorer: Restorer, bundle_path: Path
) -> None:
    half = Restorer.load(bundle_path, dtype=torch.bfloat16)
    image = torch.rand(3, 150, 201, generator=torch.Generator().manual_seed(0))
    for wish in (Wish(tile_px=0), Wish(tile_px=96)):
        exact, rough = restorer.restore(image, wish), half.restore(image, wish)
        assert rough.route == exact.route
        assert rough.image.dtype == torch.float32
        assert 0.0 < (rough.image - exact.image).abs().max() < 0.05
    _, tiles = restore_per_tile(restorer, image, Wish(tile_px=96))
    assert restore_per_tile(half, image, Wish(tile_px=96))[1] == tiles


def test_experts_are_read_when_first_needed_and_kept(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    load_expert = module.Bundle.load_expert

    def counted(bundle: module.Bundle, node: int) -> torch.nn.Module:
        read.append(node)
        return load_expert(bundle, node)

    monkeypatch.setattr(module.Bundle, "load_expert", counted)
    restorer = Restorer.load(bundle_path)
    assert read == []
    for expert in (1, 0, 1, 0):
        restorer.restore(random_u8(8, 8), Wish(expert=expert))
    assert read == [1, 0]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (torch.zeros(2, 3, 4, 4), "one by one"),
        (torch.zeros(3, 0, 4), "got"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 4, 4), 255.0), "from 255 to 255"),
        (torch.full((3, 4, 4), float("nan")), "nan"),
    ],
)
def test_what_is_no_image_is_refused(
    restorer: Restorer, image: np.ndarray | Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        restorer.restore(image)
    with pytest.raises(ValueError, match=message):
        restorer.route(image)


@pytest.mark.parametrize(
    "options", [{"level": 9}, {"expert": 99}, {"tile_px": 40}, {"tile_px": -1}]
)
def test_impossible_options_are_refused(restorer: Restorer, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        restorer.restore(random_u8(90, 90), Wish(**options))


def test_a_path_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=f"nothing.*{MANIFEST}"):
        Restorer.load(tmp_path / "nothing")


ABSENT = ("ray", "hydra", "omegaconf", "wandb")


def restore_without(bundle_path: Path, shapes: Any) -> None:
    """In a forked process: forget this package, forbid what must not be needed, import it again."""
    torch.set_num_threads(1)  # threads that the parent computed with are not there
    for name in list(sys.modules):
        if name.startswith("expertree.") and name != "expertree.testing":  # the arrays' checker
            del sys.modules[name]
    for name in [*ABSENT, *(name for name in sys.modules if name.startswith(ABSENT))]:
        sys.modules[name] = None  # type: ignore[assignment] # importing it raises ImportError
    from expertree import Restorer as Again  # noqa: PLC0415

    image = np.zeros((9, 7, 3), dtype=np.uint8)
    shapes.put((Again is Restorer, Again.load(bundle_path).restore(image).image.shape))


def test_a_bundle_is_opened_and_used_without_ray(bundle_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # a new process would import torch for seconds
    shapes = context.SimpleQueue()
    process = context.Process(target=restore_without, args=(bundle_path, shapes))
    process.start()
    process.join(timeout=60)
    process.kill()
    assert process.exitcode == 0
    assert shapes.get() == (False, (9, 7, 3))


class _CountingRestorer(Restorer):
    """Counts the experts that it runs."""

    num_runs = 0

    @contextlib.contextmanager
    def expert(self, node: int) -> Iterator[nn.Module]:
        self.num_runs += 1
        with super().expert(node) as network:
            yield network


@pytest.fixture
def careful(careful_bundle_path: Path) -> _CountingRestorer:
    return _CountingRestorer.load(careful_bundle_path)


def test_what_is_better_left_as_it_is_comes_back_to_the_bit_and_no_expert_runs(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    _, good = two_kinds
    restoration = careful.restore(good)
    assert np.array_equal(restoration.image, good)
    assert restoration.image is not good
    assert (restoration.route.expert, restoration.num_tiles) == (None, 0)
    assert restoration.route.gain_db <= careful.bundle.router.as_is_margin_db
    exact = to_float(good)
    assert torch.equal(careful.restore(exact).image, exact)
    assert careful.num_runs == 0


def test_whoever_insists_or_names_what_is_wrong_gets_an_expert(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, good = two_kinds
    left = careful.route(good)
    insisted = careful.restore(good, Wish(insist=True))
    assert insisted.route.expert == careful.tree.expert_of(left.node)
    assert insisted.route.gain_db == left.gain_db
    asked = careful.restore(good, Wish(expert=insisted.route.expert))
    assert np.array_equal(insisted.image, asked.image)
    for wish in ({"level": 1}, {"confidence": 2}, {"expert": 0}, {"instruction": ["rain"]}):
        assert careful.route(good, Wish(**wish)).expert is not None
    assert careful.route(spoiled, Wish(insist=True)) == dataclasses.replace(
        careful.route(spoiled), confidence=careful.route(spoiled, Wish(insist=True)).confidence
    )


def test_strength_mixes_image_and_restoration_exact_at_both_ends(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, _ = two_kinds
    whole = careful.restore(spoiled).image
    careful.num_runs = 0
    nothing = careful.restore(spoiled, Wish(strength=0.0))
    assert np.array_equal(nothing.image, spoiled)
    assert nothing.route.expert is not None
    assert (nothing.num_tiles, careful.num_runs) == (0, 0)
    assert np.array_equal(careful.restore(spoiled, Wish(strength=1.0)).image, whole)
    part = careful.restore(spoiled, Wish(strength=0.4))
    expected = np.floor(spoiled + 0.4 * (whole.astype(np.float64) - spoiled) + 0.5)
    assert np.array_equal(part.image, expected)
    tensor = careful.restore(to_float(spoiled), Wish(strength=0.4)).image
    # Rounded twice in uint8: the restoration, of which four tenths count, and the mix.
    assert float(abs(tensor - to_float(part.image)).max()) <= 1.4 * NETWORK_ATOL + 1e-6


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_strength_that_cannot_be_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        Wish(strength=strength)


def test_each_tile_decides_whether_it_is_left_as_it_is(
    careful: _CountingRestorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    spoiled, good = (np.tile(image, (4, 4, 1))[:128, :128] for image in two_kinds)
    alone = functools.partial(restore_per_tile, careful, overlap_px=0)
    image = to_float(np.concatenate([good, spoiled], axis=1))
    restored, routes = alone(image, Wish(tile_px=64))
    stays = [route.expert is None for route in routes]
    assert any(stays)
    assert not all(stays)
    for route in routes:
        rows = slice(route.top_px, route.top_px + route.height_px)
        columns = slice(route.left_px, route.left_px + route.width_px)
        tile, made = image[:, rows, columns], restored[:, rows, columns]
        # Blending divides by the sum of weights, which is 1 to a few units of float32.
        is_same = bool(torch.allclose(made, tile, atol=1e-6))
        assert is_same == (route.expert is None)
    assert torch.equal(alone(image, Wish(tile_px=64, strength=0.0))[0], image)
    left = to_float(np.concatenate([good, good], axis=1))
    same, routes = alone(left, Wish(tile_px=64))
    assert all(route.expert is None for route in routes)
    assert torch.equal(same, left)


def test_tiles_of_their_own_experts_start_where_every_expert_works(bundle_path: Path) -> None:
    bundle = Restorer.load(bundle_path).bundle
    multiples = itertools.cycle((4, 6))
    entries = tuple(
        dataclasses.replace(entry, multiple_px=next(multiples)) for entry in bundle.manifest.experts
    )
    manifest = dataclasses.replace(bundle.manifest, experts=entries)
    restorer = Restorer(dataclasses.replace(bundle, manifest=manifest))
    image = torch.rand(3, 200, 230, generator=torch.Generator().manual_seed(0))
    _, tiles = restore_per_tile(restorer, image, Wish(tile_px=80), overlap_px=8)
    assert len(tiles) > 4
    assert {start % 12 for tile in tiles for start in (tile.top_px, tile.left_px)} == {0}
