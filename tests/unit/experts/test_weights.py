"""A stored expert opens as it was, or not at all."""

import pytest
import torch

from expertree.errors import ArtefactError
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.weights import load_expert, read_card, save_expert

JOB = ExpertJob(
    key="e0",
    backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
    recipe=RecipeConfig(),
    num_samples=8,
    seed=0,
)


def test_round_trip_keeps_names_and_values(storage):
    network = build_backbone(JOB.backbone)
    save_expert(storage, network.state_dict(), JOB)
    opened = load_expert(storage)
    assert not opened.training
    assert list(opened.state_dict()) == list(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value)


def test_the_card_says_what_it_is(storage):
    save_expert(storage, build_backbone(JOB.backbone).state_dict(), JOB)
    card = storage.read_json("expert.json")
    assert card["backbone"]["width"] == 4
    assert card["num_samples"] == 8
    assert card["num_parameters"] == sum(
        p.numel() for p in build_backbone(JOB.backbone).parameters()
    )


def test_damaged_weights_do_not_open(storage):
    save_expert(storage, build_backbone(JOB.backbone).state_dict(), JOB)
    data = bytearray(storage.read_bytes("expert.safetensors"))
    data[-1] ^= 1
    storage.write_bytes("expert.safetensors", bytes(data))
    with pytest.raises(ArtefactError, match="damaged"):
        load_expert(storage)


def test_weights_of_another_layout_do_not_open(storage):
    other = build_backbone(NAFNetConfig(width=6, encoder=(1,), middle=1, decoder=(1,)))
    save_expert(storage, other.state_dict(), JOB)
    with pytest.raises(ArtefactError, match="does not fit"):
        load_expert(storage)


def test_a_card_of_another_version_does_not_open(storage):
    save_expert(storage, build_backbone(JOB.backbone).state_dict(), JOB)
    storage.write_json("expert.json", {"version": 99})
    with pytest.raises(ArtefactError, match="version"):
        load_expert(storage)


def test_a_card_with_a_size_that_its_network_does_not_have_does_not_open(storage):
    save_expert(storage, build_backbone(JOB.backbone).state_dict(), JOB)
    card = storage.read_json("expert.json")
    card["backbone"]["prompt_widths"] = [8, 4, 4]
    storage.write_json("expert.json", card)
    with pytest.raises(
        ArtefactError, match=r"'nafnet' has no 'prompt_widths'; did you mean 'width'"
    ):
        read_card(storage)
