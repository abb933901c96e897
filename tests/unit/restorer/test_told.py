"""Bundles of networks that are told of the whole image: it reaches every tile."""

import pytest
import safetensors.torch
import torch

from expertree.errors import ArtefactError
from expertree.experts.conditions import WINDOW
from expertree.experts.sentences import hashed
from expertree.restorer import Restorer, read_outline
from expertree.restorer.compact import write_compact
from expertree.restorer.exports import export_expert
from expertree.routing import Wish
from expertree.storage import Storage
from told import INSTRUCT, SLER, TOLD, with_experts


@pytest.fixture(scope="module")
def restorer(told_bundle):
    return Restorer.load(told_bundle("sler_ir"))


@pytest.fixture
def calls(restorer, monkeypatch):
    """What the expert of every call was told."""
    found = []
    with restorer.expert(0) as network:
        restore = network.restore_and_choose

    def recorded(image, condition):
        found.append(condition)
        return restore(image, condition)

    monkeypatch.setattr(network, "restore_and_choose", recorded)
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


@pytest.fixture(scope="module")
def instructed(told_bundle):
    return Restorer.load(told_bundle("instructir"))


def test_an_instruction_reaches_a_network_that_takes_sentences(instructed):
    image = torch.rand(3, 48, 40)
    said = instructed.tell(0, image[None], Wish(expert=0, instruction=("noise", "rain")))
    (sentence,) = hashed(["remove the noise and remove the rain"])
    assert torch.equal(said["sentence"][0], torch.from_numpy(sentence))
    assert set(instructed.tell(0, image[None], Wish(expert=0))) == {"embedding"}
    images = [
        instructed.restore(image, Wish(expert=0, instruction=names)).image
        for names in ((), ("noise",), ("rain",))
    ]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_words_reach_it_as_they_are_and_lead_by_the_names_that_they_mean(instructed):
    image, words = torch.rand(3, 48, 40), "Could you take the RAIN off, please?"
    wish = instructed.bundle.outline.understand(Wish(words=words))
    assert (wish.instruction, wish.words) == (("rain",), words)
    said = instructed.tell(0, image[None], Wish(words=words))
    assert torch.equal(said["sentence"][0], torch.from_numpy(hashed([words])[0]))
    by_name = instructed.route(image, Wish(instruction=("rain",)))
    assert instructed.route(image, Wish(words=words)) == by_name
    named = instructed.restore(image, Wish(instruction=("rain",))).image
    assert not torch.equal(instructed.restore(image, Wish(words=words)).image, named)


def test_words_that_name_nothing_are_still_said(instructed):
    image, words = torch.rand(3, 48, 40), "qwertz uiop"
    assert instructed.bundle.outline.understand(Wish(words=words)) == Wish(words=words)
    said = instructed.tell(0, image[None], Wish(words=words))
    assert torch.equal(said["sentence"][0], torch.from_numpy(hashed([words])[0]))
    assert instructed.route(image, Wish(words=words)).expert is not None


def test_words_that_are_names_are_the_names(instructed, restorer):
    for own in (instructed, restorer):
        found = own.bundle.outline.understand(Wish(words="rain, Noise"))
        assert found == Wish(instruction=("rain", "noise"))


def test_networks_that_take_no_sentences_take_names_only(restorer):
    with pytest.raises(ValueError, match="unknown degradation 'take the rain off'"):
        restorer.route(torch.rand(3, 48, 40), Wish(words="take the rain off"))


def test_an_outline_read_from_disk_understands_the_same(instructed):
    outline = read_outline(instructed.bundle.directory)
    assert outline.sentence_encoder == INSTRUCT.text
    assert outline.check_wish(Wish(words="take the rain off")).instruction == ("rain",)


def test_networks_that_are_told_by_another_extractor_are_no_part_of_the_bundle(parts, tmp_path):
    strange = with_experts(parts, tmp_path, SLER, extractor=Storage.open(tmp_path / "other"))
    with pytest.raises(ArtefactError, match="the extractor other told the network"):
        strange.write(Storage.open(tmp_path / "bundle"))


@pytest.mark.parametrize("name", TOLD)
def test_bundles_of_them_are_halved_and_their_experts_exported(told_bundle, tmp_path, name):
    restorer = Restorer.load(told_bundle(name))
    file, _ = export_expert(restorer.bundle, 0, Storage.open(tmp_path), "safetensors")
    kept = safetensors.torch.load_file(tmp_path / file)
    with restorer.expert(0) as network:
        assert set(kept) == set(network.state_dict())
    write_compact(restorer.bundle, Storage.open(tmp_path / "half"))
    image = torch.rand(3, 48, 40)
    half = Restorer.load(tmp_path / "half").restore(image, Wish(expert=0)).image
    whole = restorer.restore(image, Wish(expert=0)).image
    assert (half - whole).abs().mean() < 0.005
