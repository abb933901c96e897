"""The assembled model: routes, wishes, experts that are read once, and life without Ray."""

import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from expertree import Restorer
from expertree.errors import ArtefactError
from expertree.images.io import to_float, to_u8
from expertree.restorer import restorer as module
from expertree.restorer.manifest import MANIFEST
from expertree.restorer.per_tile import restore_per_tile
from expertree.routing import Wish
from photographs import random_u8


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


def test_an_expert_that_is_asked_for_restores_as_it_does_when_chosen(restorer: Restorer) -> None:
    image = random_u8(40, 50)
    restoration = restorer.restore(image)
    asked = restorer.restore(image, Wish(expert=restoration.route.expert))
    assert np.array_equal(asked.image, restoration.image)


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
