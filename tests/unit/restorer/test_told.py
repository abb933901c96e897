"""Bundles of networks that are told of the whole image: it reaches every tile."""

import dataclasses

import pytest
import torch

from expertree.errors import ArtefactError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.instructir import InstructIRConfig
from expertree.experts.backbones.sler_ir import SLERIRConfig
from expertree.experts.conditions import WINDOW
from expertree.experts.sentences import hashed
from expertree.experts.weights import save_expert
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving.replica_work import TileWorker
from expertree.storage import Storage

ONES = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1)}
SIZES = {"width": 4, "heads": (1, 1, 2, 2), "refinement": 1, "router_hidden": 8, "router_dim": 4}
INSTRUCT = InstructIRConfig(
    width=4, encoder=(1, 1), middle=1, decoder=(1, 1), told_width=8, embed_dim=16
)
SLER = SLERIRConfig(**ONES, **SIZES, embed_dim=16, prior_width=8)


def with_experts(parts, folder, backbone, extractor=None):
    """The parts of a bundle whose experts are all of one kind, and unlike each other."""
    experts = {}
    for node in parts.experts:
        torch.manual_seed(node)
        network = build_backbone(backbone)
        for value in network.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.2)
        experts[node] = Storage.open(folder / f"expert-{node}")
        job = ExpertJob(
            key=f"e{node}",
            backbone=backbone,
            recipe=RecipeConfig(),
            num_samples=8,
            seed=node,
            extractor=(extractor or parts.extractor).uri,
        )
        save_expert(experts[node], network.state_dict(), job)
    return dataclasses.replace(parts, experts=experts)


@pytest.fixture(scope="module")
def restorer(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    with_experts(parts, folder, SLER).write(Storage.open(folder / "bundle"))
    return Restorer.load(folder / "bundle")


@pytest.fixture
def calls(restorer, monkeypatch):
    """What the expert of every call was told."""
    found = []
    with restorer.expert(0) as network:
        forward = network.forward

    def recorded(image, condition):
        found.append(condition)
        return forward(image, condition)

    monkeypatch.setattr(network, "forward", recorded)
    return found


def test_each_tile_is_told_of_the_whole_image_and_where_it_lies(restorer, calls):
    image = torch.rand(3, 96, 160)
    restored = restorer.restore(image, Wish(expert=0, tile_px=64))
    assert restored.num_tiles == len(calls) > 2
    seen = restorer.tell(0, image[None], Wish())
    assert set(seen) == set(SLER.told)
    for condition in calls:
        assert all(torch.equal(condition[name], value) for name, value in seen.items())
    windows = [condition[WINDOW][0].tolist() for condition in calls]
    assert windows[0][:2] == [0.0, 0.0]
    assert windows[-1][2:] == [1.0, 1.0]
    assert len({tuple(window) for window in windows}) == len(windows)


def test_an_image_at_once_is_what_the_network_makes_of_it(restorer):
    image = torch.rand(3, 48, 40)
    restored = restorer.restore(image, Wish(expert=0, tile_px=0)).image
    with restorer.expert(0) as network, torch.inference_mode():
        told = restorer.tell(0, image[None], Wish())
        expected = network(image[None], told)[0].clamp(0, 1)
        assert not torch.equal(network(image[None])[0].clamp(0, 1), expected)
    assert torch.equal(restored, expected)


def test_an_instruction_reaches_a_network_that_takes_sentences(parts, tmp_path):
    with_experts(parts, tmp_path, INSTRUCT).write(Storage.open(tmp_path / "bundle"))
    restorer = Restorer.load(tmp_path / "bundle")
    image = torch.rand(3, 48, 40)
    said = restorer.tell(0, image[None], Wish(expert=0, instruction=("noise", "rain")))
    (sentence,) = hashed(["remove the noise and remove the rain"])
    assert torch.equal(said["sentence"][0], torch.from_numpy(sentence))
    assert set(restorer.tell(0, image[None], Wish(expert=0))) == {"embedding"}
    images = [
        restorer.restore(image, Wish(expert=0, instruction=names)).image
        for names in ((), ("noise",), ("rain",))
    ]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_replicas_which_see_tiles_alone_refuse_such_experts(restorer):
    with pytest.raises(ArtefactError, match=r"expert 0 .* is told of the whole image"):
        TileWorker(restorer).test(0)


def test_networks_that_are_told_by_another_extractor_are_no_part_of_the_bundle(parts, tmp_path):
    strange = with_experts(parts, tmp_path, SLER, extractor=Storage.open(tmp_path / "other"))
    with pytest.raises(ArtefactError, match="the extractor other told the network"):
        strange.write(Storage.open(tmp_path / "bundle"))
