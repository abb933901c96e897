import dataclasses
import json

import open_clip
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from expertree.embedding import (
    ClipConfig,
    ExtractorConfig,
    ExtractorRecipe,
    build_extractor,
    load_extractor,
    save_extractor,
    train_extractor,
)
from expertree.embedding.controller import blocks_of, states_of
from expertree.embedding.heads import HEADS, logit_scale
from expertree.embedding.objective import multi_positive_loss
from expertree.embedding.recipe import batch_at, crops_at
from expertree.errors import ConfigError
from expertree.storage import Storage

NAME = "expertree-tiny-control"
ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 3,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}
RECIPE = ExtractorRecipe(
    num_steps=6,
    batch_size=8,
    crop_px=32,
    learning_rate=3e-3,
    checkpoint_every_steps=2,
    num_threads=1,
)
CAPTIONS = ["heavy low-light", "large noise", "thick haze"] * 4


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A tiny ViT whose weights this test saved, as someone brings pretrained ones."""
    folder = tmp_path_factory.mktemp("control")
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(path)
    torch.manual_seed(3)
    model = CustomTextCLIP(16, ARCHITECTURE["vision_cfg"], ARCHITECTURE["text_cfg"])
    weights = folder / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    yield ExtractorConfig(
        form="controller",
        clip=ClipConfig(name=NAME, pretrained=str(weights)),
        embed_dim=16,
        view_px=32,
        recipe=RECIPE,
    )
    path.unlink()
    open_clip.factory._rescan_model_configs()


@pytest.fixture(scope="module")
def extractor(config):
    return build_extractor(config)


class Pairs:
    """Clean patches, dark, noisy and pale ones made of them, and what was asked for."""

    def __init__(self, num_left: int = 99) -> None:
        generator = torch.Generator().manual_seed(0)
        self.clean = torch.rand(12, 3, 36, 36, generator=generator)
        spoiled = self.clean.clone()
        spoiled[0::3] *= 0.2
        spoiled[1::3] += 0.3 * torch.randn(4, 3, 36, 36, generator=generator)
        spoiled[2::3] = 0.8 + 0.2 * spoiled[2::3]
        self.spoiled = spoiled.clamp(0, 1)
        self.num_left, self.asked = num_left, []

    def __len__(self) -> int:
        return 12

    def lq(self, indices) -> torch.Tensor:
        if not self.num_left:
            raise KeyboardInterrupt
        self.num_left -= 1
        self.asked.append("lq")
        return self.spoiled[list(indices)].mul(255).to(torch.uint8)

    def gt(self, indices) -> torch.Tensor:
        self.asked.append("gt")
        return self.clean[list(indices)].mul(255).to(torch.uint8)


def train(directory, config, patches=None):
    return train_extractor(config, patches or Pairs(), CAPTIONS, directory=directory, seed=0)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    directory = Storage.open(tmp_path_factory.mktemp("trained"))
    train(directory, config)
    return directory


def test_before_training_both_embeddings_are_the_frozen_towers_to_the_bit(extractor):
    views = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        degradation, content = extractor.encode_both(views)
        frozen = extractor.content.tower((views - extractor.mean) / extractor.std)
    assert torch.equal(content, frozen)
    assert torch.equal(degradation, frozen)
    assert torch.equal(extractor.encode_clean(views), frozen)


def test_there_is_a_link_for_each_block_and_the_last_block_feeds_the_first(config):
    extractor = build_extractor(config)
    content = extractor.content
    assert [tuple(link.weight.shape) for link in content.links] == [(32, 32)] * 3
    torch.manual_seed(0)
    for link in content.links:
        torch.nn.init.normal_(link.weight, std=0.1)
    views = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = extractor.encode_both(views)[1]
        inputs = (views - extractor.mean) / extractor.std
        with states_of(extractor.visual) as states:
            extractor.visual(inputs)
        tower = content.tower
        tokens = tower._embeds(inputs)
        for place, block in enumerate(blocks_of(tower)):
            tokens = block(tokens) + content.links[2 - place](states[2 - place])
        expected = tower._pool(tokens)[0] @ tower.proj
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, extractor.encode_clean(views))


def test_training_moves_controller_and_links_and_nothing_that_came_pretrained(extractor, trained):
    after = load_extractor(trained, captions=True)
    before = extractor.state_dict()
    moved = {n for n, t in after.state_dict().items() if not torch.equal(t, before[n])}
    assert not any(n.startswith(("content.tower.", "captions.text.")) for n in moved)
    assert {f"content.links.{n}.weight" for n in range(3)} <= moved
    assert "visual.proj" in moved
    log = trained.read_json("log.json")
    assert log["content_target"] == "clean images"
    assert log["curve"]["loss"][-1] < log["curve"]["loss"][0]


def test_the_first_loss_is_that_of_degrees_and_that_of_clean_images(config, extractor, tmp_path):
    recipe = dataclasses.replace(RECIPE, num_steps=1, batch_size=16)
    patches, directory = Pairs(), Storage.open(tmp_path)
    train(directory, dataclasses.replace(config, recipe=recipe), patches)
    assert patches.asked == ["lq", "gt"]
    rows = batch_at(recipe, 0, num_patches=12, seed=0)
    assert len(set(rows)) < 16
    spoiled, clean = (
        crops_at(side(rows), recipe, 0, seed=0).float() / 255 for side in (patches.lq, patches.gt)
    )
    extractor.train()
    with torch.no_grad():
        content = extractor.encode_clean(spoiled)
        keys = sorted(set(rows))
        targets = F.normalize(extractor.encode_clean(clean), dim=1)
        targets = targets[[rows.index(key) for key in keys]]
        places = torch.tensor([keys.index(row) for row in rows])
        expected = multi_positive_loss(content, targets, places, logit_scale(extractor.captions))
        expected += HEADS["linear"].loss(content, [CAPTIONS[r] for r in rows], extractor.captions)
    (found,) = directory.read_json("log.json")["curve"]["loss"]
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_a_killed_training_goes_on_to_the_same_bytes(config, trained, tmp_path):
    directory = Storage.open(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(directory, config, Pairs(num_left=3))
    train(directory, config)
    for name in ("extractor.safetensors", "content.safetensors", "captions.safetensors"):
        assert directory.read_bytes(name) == trained.read_bytes(name)


def test_what_routing_loads_is_the_controller_alone(trained):
    images = torch.rand(2, 3, 50, 40)
    whole, alone = load_extractor(trained, captions=True), load_extractor(trained)
    assert torch.equal(whole.embed(images), alone.embed(images))
    assert {name.split(".")[0] for name in alone.state_dict()} == {"visual", "mean", "std"}
    assert not torch.allclose(alone.embed(images).norm(dim=1), torch.ones(2))
    with pytest.raises(ValueError, match="no content tower in memory"):
        alone.encode_clean(images)


def test_a_bundle_leaves_the_frozen_tower_out(extractor, tmp_path):
    directory = Storage.open(tmp_path)
    save_extractor(extractor, directory, captions=False)
    assert directory.list_files() == ["extractor.json", "extractor.safetensors"]


def test_what_cannot_be_controlled_is_refused(config, tmp_path):
    cnn = ExtractorConfig(form="controller", clip=ClipConfig(image_tower="test_resnet"))
    with pytest.raises(ConfigError, match=r"image tower is a TimmModel; name one in clip\.name"):
        build_extractor(cnn)
    with pytest.raises(ValueError, match="choose another view"):
        dataclasses.replace(config, view="sliding")
    with pytest.raises(ValueError, match="learnt with form=controller only"):
        ExtractorConfig(content_captions="blip")
    small = dataclasses.replace(RECIPE, crop_px=24)
    with pytest.raises(ConfigError, match=r"positions for 32 px .* but crop_px is 24"):
        train(Storage.open(tmp_path), dataclasses.replace(config, recipe=small))


@pytest.fixture
def blip(tmp_path):
    """A tiny BLIP of random weights, saved as transformers saves the real one."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghij"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    numbers = {"bos_token_id": 2, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    text = {"vocab_size": len(words), "intermediate_size": 16, "encoder_hidden_size": 16, **size}
    vision = {"image_size": 32, "patch_size": 16, "intermediate_size": 16, **size}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text | numbers, vision_config=vision)
    )
    folder = tmp_path / "blip"
    model.save_pretrained(folder)
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    processor.save_pretrained(folder)
    return str(folder)


def test_captions_by_blip_become_the_content_target(config, blip, tmp_path):
    directory = Storage.open(tmp_path / "run")
    patches = Pairs()
    train(directory, dataclasses.replace(config, content_captions=blip), patches)
    assert directory.read_json("log.json")["content_target"] == "captions by BLIP"
    captions = directory.read_json("content_captions.json")["captions"]
    assert len(captions) == 12
    assert all(set(caption.split()) <= set("abcdefghij") for caption in captions)
    assert any(captions)
    assert patches.asked == ["gt", *["lq"] * 6]


def test_a_folder_without_blip_is_refused_before_the_training(config, tmp_path):
    wrong = dataclasses.replace(config, content_captions=str(tmp_path))
    with pytest.raises(ConfigError, match="holds no BLIP model"):
        train(Storage.open(tmp_path / "run"), wrong)
