"""Training an adapter: it learns, it resumes to the bit, and it opens with its own root only."""

import dataclasses
import json

import pytest
import safetensors.torch
import torch

from expert_jobs import StoppedError, stop_after
from expertree.config import fingerprint
from expertree.errors import ArtefactError
from expertree.experts.adapter import AdapterConfig, adapter_shapes
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.published import PublishedWeights
from expertree.experts.recipe import ExpertJob, RecipeConfig
from expertree.experts.scoring import score_expert
from expertree.experts.training import train_expert
from expertree.experts.weights import load_expert, read_adapter, read_card
from expertree.storage import Storage

RECIPE = RecipeConfig(
    batch_size=3, patch_px=16, ema_decay=0.9, weight_decay=1e-2, checkpoint_every_samples=10
)
ROOT_JOB = ExpertJob(
    key="root",
    backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
    recipe=dataclasses.replace(RECIPE, learning_rate=1e-2, ema_decay=0.0),
    num_samples=90,
    seed=5,
)


@pytest.fixture
def root(undisturbed):
    return undisturbed(ROOT_JOB)


def adapter_job(root, **changes):
    job = ExpertJob(
        key="a",
        backbone=ROOT_JOB.backbone,
        recipe=dataclasses.replace(RECIPE, learning_rate=1e-2),
        num_samples=60,
        seed=7,
        init=root.uri,
        adapter=AdapterConfig(),
    )
    return dataclasses.replace(job, **changes)


@pytest.fixture
def train(tmp_path, patches, root, monkeypatch):
    """Train an adapter on the root; a report after each step, not after each second."""
    monkeypatch.setattr("expertree.training.loop._SECONDS_BETWEEN_REPORTS", 0.0)

    def run(name, on_progress=None, **changes):
        directory = Storage.open(tmp_path / name)
        job = adapter_job(root, **changes)
        train_expert(job, patches=patches, directory=directory, on_progress=on_progress)
        return directory

    return run


@pytest.fixture
def trained(undisturbed, root):
    """The directory of an adapter that is trained once; tests only read it."""
    return lambda **changes: undisturbed(adapter_job(root, **changes))


@pytest.fixture
def copy(trained, tmp_path):
    """A trained adapter that a test may spoil."""
    copied = Storage.open(tmp_path / "copy")
    for name in trained().list_files():
        copied.write_bytes(name, trained().read_bytes(name))
    return copied


def adapter_bytes(directory):
    return directory.read_bytes("adapter.safetensors")


def test_every_tensor_of_the_adapter_learns_and_the_root_stays_as_it_is(train, root):
    before = root.read_bytes("expert.safetensors")
    directory = train("a", recipe=RecipeConfig(batch_size=3, patch_px=16))
    assert root.read_bytes("expert.safetensors") == before
    theirs = load_expert(root).state_dict()
    tensors = read_adapter(directory).tensors
    wanted = adapter_shapes(ROOT_JOB.backbone, AdapterConfig())
    assert {name: tuple(value.shape) for name, value in tensors.items()} == wanted
    for name, value in tensors.items():
        if name.endswith("lora_B"):
            assert value.any(), name
        elif not name.endswith("lora_A"):
            assert not torch.equal(value, theirs[name]), name


def test_what_opens_is_the_root_with_the_changes(trained, root):
    directory = trained()
    adapter, ours = read_adapter(directory), load_expert(directory, root=root)
    theirs = load_expert(root).state_dict()
    assert not ours.training
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs[name]) == (name not in adapter.changed), name
    change = adapter.tensors["intro.lora_B"].flatten(1) @ adapter.tensors["intro.lora_A"].flatten(1)
    expected = theirs["intro.weight"] + 2 * change.view_as(theirs["intro.weight"])
    torch.testing.assert_close(ours.state_dict()["intro.weight"], expected)


def test_an_adapter_improves_on_its_root(train, root, patches):
    recipe = RecipeConfig(batch_size=4, patch_px=16, fresh=False, learning_rate=1e-2, ema_decay=0.0)
    directory = train("a", recipe=recipe, num_samples=240)
    before, after = (score_expert(load_expert(d, root=root), patches) for d in (root, directory))
    assert after["psnr_rgb"].mean() > before["psnr_rgb"].mean() + 0.5


@pytest.mark.parametrize("stops", [(7, 31), (29, 58)])
@pytest.mark.parametrize("train_norms", [False, True])
def test_stopped_and_resumed_equals_undisturbed_to_the_bit(train, trained, stops, train_norms):
    adapter = AdapterConfig(rank=2, train_norms=train_norms)
    expected = trained(adapter=adapter)
    for stop in stops:
        with pytest.raises(StoppedError):
            train("stopped", stop_after(stop), adapter=adapter)
    resumed = train("stopped", adapter=adapter)
    assert adapter_bytes(resumed) == adapter_bytes(expected)
    assert resumed.read_bytes("expert.json") == expected.read_bytes("expert.json")
    files = ["adapter.safetensors", "expert.json", "log.json"]
    assert resumed.list_files() == files


def test_the_card_names_the_adapter_and_its_root(trained, root):
    directory = trained(adapter=AdapterConfig(rank=2))
    card = read_card(directory)
    assert card.adapter == AdapterConfig(rank=2)
    assert card.root is not None
    assert (card.root.key, card.root.sha256) == ("root", read_card(root).sha256)
    tensors = safetensors.torch.load(adapter_bytes(directory))
    assert card.num_parameters == sum(value.numel() for value in tensors.values())
    assert "adapter" not in root.read_json("expert.json")


def test_an_adapter_without_its_root_says_which_it_needs(trained):
    with pytest.raises(ArtefactError, match=r"a-\w+ is an adapter; open .* root, expert root"):
        load_expert(trained())


def test_another_root_is_refused(trained, undisturbed):
    directory = trained()
    other = undisturbed(dataclasses.replace(ROOT_JOB, key="other", seed=6))
    with pytest.raises(ArtefactError, match=r"an adapter on expert root .*, which is expert other"):
        load_expert(directory, root=other)
    with pytest.raises(ArtefactError, match="is no adapter on"):
        load_expert(directory, root=trained(adapter=AdapterConfig(rank=2)))


def test_an_adapter_on_an_adapter_is_refused(train, trained):
    with pytest.raises(ArtefactError, match="a whole network is needed"):
        train("b", init=trained().uri)


def test_an_adapter_on_another_backbone_is_refused(train):
    with pytest.raises(ArtefactError, match="another backbone"):
        train("a", backbone=dataclasses.replace(ROOT_JOB.backbone, width=6))


def test_a_damaged_adapter_is_refused(copy, root):
    data = bytearray(adapter_bytes(copy))
    data[-1] ^= 1
    copy.write_bytes("adapter.safetensors", bytes(data))
    with pytest.raises(ArtefactError, match=r"adapter\.safetensors is damaged"):
        load_expert(copy, root=root)


def test_an_adapter_of_another_rank_than_its_card_says_is_refused(copy, root):
    card = copy.read_json("expert.json")
    card["adapter"]["rank"] = 4
    copy.write_bytes("expert.json", json.dumps(card).encode())
    with pytest.raises(ArtefactError, match=r"'.*lora_A' of shape .8, .* needs .4"):
        load_expert(copy, root=root)


@pytest.mark.parametrize("field", ["adapter", "root"])
def test_half_an_adapter_is_refused(copy, root, field):
    card = copy.read_json("expert.json")
    del card[field]
    copy.write_json("expert.json", card)
    with pytest.raises(ArtefactError, match="come together"):
        load_expert(copy, root=root)


def test_an_adapter_needs_a_root():
    published = PublishedWeights(uri="a.pth", sha256="")
    for given in ({}, {"published": published}):
        with pytest.raises(ValueError, match="give its root as init"):
            dataclasses.replace(ROOT_JOB, adapter=AdapterConfig(), **given)


def test_a_job_is_named_as_before_adapters_and_configs_of_each_network():
    before = dataclasses.asdict(ROOT_JOB)
    del before["adapter"], before["extractor"]
    transformers = ("heads", "refinement", "expansion", "norm_bias", "stages")
    before["backbone"] |= dict.fromkeys((*transformers, "prompts", "prompt_widths", "prompt_px"))
    assert ROOT_JOB.fingerprint == fingerprint(before)
    with_adapter = dataclasses.replace(ROOT_JOB, init="root", adapter=AdapterConfig())
    other = dataclasses.replace(with_adapter, adapter=AdapterConfig(rank=4))
    assert len({ROOT_JOB.fingerprint, with_adapter.fingerprint, other.fingerprint}) == 3
