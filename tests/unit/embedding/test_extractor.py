import dataclasses
import json
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.model import CustomTextCLIP

from expertree.config import load, to_dict
from expertree.embedding import (
    ClipConfig,
    ExtractorConfig,
    build_extractor,
    degree_accuracy,
    embed_patches,
    extractor_hash,
    load_extractor,
    save_extractor,
    stored_extractor_hash,
)
from expertree.embedding.clip import SmallTower
from expertree.embedding.views import VIEWS
from expertree.errors import ArtefactError, ConfigError
from expertree.storage import Storage

CONFIG = ExtractorConfig(
    clip=ClipConfig(image_tower="test_resnet"), embed_dim=24, view="centre_crop", view_px=32
)


class ArrayPatches:
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def lq(self, indices) -> torch.Tensor:
        return self.images[list(indices)]


@pytest.fixture(scope="module")
def extractor():
    return build_extractor(CONFIG, seed=1)


@pytest.fixture
def saved(extractor, tmp_path) -> Storage:
    directory = Storage.open(tmp_path)
    save_extractor(extractor, directory)
    return directory


@pytest.mark.parametrize("tower", ["test_resnet", "resnet10t", "test_vit"])
def test_the_image_tower_alone_is_that_of_the_whole_model(tower, tmp_path):
    config = dataclasses.replace(CONFIG, clip=ClipConfig(image_tower=tower), view_px=160)
    whole, directory = build_extractor(config, seed=2), Storage.open(tmp_path)
    save_extractor(whole, directory)
    alone, again = load_extractor(directory), load_extractor(directory, captions=True)
    assert isinstance(alone.visual, SmallTower)
    assert not isinstance(again.visual, SmallTower)
    images = torch.rand(3, 3, 160, 170, generator=torch.Generator().manual_seed(0))
    for other in (alone, again):
        assert torch.equal(other.embed(images), whole.embed(images))
        assert extractor_hash(other) == extractor_hash(whole)


def test_embedding_images_needs_none_of_the_libraries_that_take_seconds(saved):
    ask = (
        "import sys\nfrom expertree.embedding import load_extractor\n"
        "from expertree.storage import Storage\nload_extractor(Storage.open(sys.argv[1]))\n"
        "assert {'open_clip', 'timm', 'torchvision', 'transformers'}.isdisjoint(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", ask, saved.uri], check=True, timeout=110)


def test_images_of_any_size_become_float32_embeddings(extractor):
    for size in ((32, 32), (50, 71), (8, 40)):
        embeddings = extractor.embed(torch.rand(2, 3, *size))
        assert embeddings.shape == (2, 24)
        assert embeddings.dtype == torch.float32
        assert not embeddings.requires_grad


def test_only_the_view_decides(extractor):
    image = torch.rand(1, 3, 64, 64)
    frame = torch.rand(1, 3, 64, 64)
    frame[..., 16:48, 16:48] = image[..., 16:48, 16:48]
    torch.testing.assert_close(extractor.embed(image), extractor.embed(frame))


def test_an_embedding_does_not_depend_on_the_batch(extractor):
    images = torch.rand(4, 3, 32, 32)
    together = extractor.embed(images)
    torch.testing.assert_close(extractor.embed(images[2:3])[0], together[2], atol=1e-5, rtol=1e-4)


def test_embed_uses_the_statistics_of_training_whatever_the_mode(extractor):
    images = torch.rand(4, 3, 32, 32)
    expected = extractor.embed(images)
    assert torch.equal(extractor.train().embed(images), expected)
    assert not extractor.training


@pytest.mark.parametrize(
    "images",
    [torch.rand(3, 32, 32), torch.rand(1, 4, 32, 32), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)],
)
def test_what_is_not_a_batch_of_float_rgb_is_refused(extractor, images):
    with pytest.raises(ValueError, match=r"images must be float \[batch, 3, height, width\]"):
        extractor.embed(images)


def test_patches_are_embedded_in_order_whatever_the_batch_size(extractor):
    images = torch.randint(0, 256, (7, 3, 40, 40), dtype=torch.uint8)
    expected = extractor.embed(images.float() / 255).numpy()
    for batch_size in (3, 64):
        found = embed_patches(extractor, ArrayPatches(images), batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    hashes = [extractor_hash(build_extractor(CONFIG, seed=seed)) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_config_survives_a_round_trip_as_plain_data():
    assert load(ExtractorConfig, to_dict(CONFIG)) == CONFIG


def test_a_saved_extractor_embeds_the_same_with_and_without_its_text_tower(extractor, saved):
    images = torch.rand(2, 3, 32, 32)
    for captions in (False, True):
        loaded = load_extractor(saved, captions=captions)
        assert torch.equal(loaded.embed(images), extractor.embed(images))
        assert (loaded.captions is not None) == captions
        assert loaded.config == CONFIG
        assert extractor_hash(loaded) == stored_extractor_hash(saved) == extractor_hash(extractor)


def test_saving_again_gives_the_same_bytes(saved, tmp_path):
    again = Storage.open(tmp_path / "again")
    save_extractor(load_extractor(saved, captions=True), again)
    for name in saved.list_files():
        if not name.startswith("again/"):
            assert again.read_bytes(name) == saved.read_bytes(name)


def test_a_bundle_can_leave_the_text_tower_out(extractor, tmp_path):
    directory = Storage.open(tmp_path)
    save_extractor(extractor, directory, captions=False)
    assert directory.list_files() == ["extractor.json", "extractor.safetensors"]
    load_extractor(directory)
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_extractor(directory, captions=True)


def damage_tensors(directory: Storage) -> None:
    directory.write_bytes("extractor.safetensors", b"\0" * 100)


def damage_version(directory: Storage) -> None:
    directory.write_json("extractor.json", {**directory.read_json("extractor.json"), "version": 9})


def damage_config(directory: Storage) -> None:
    header = directory.read_json("extractor.json")
    directory.write_json("extractor.json", {**header, "config": {"colour": "red"}})


def damage_shape(directory: Storage) -> None:
    header = directory.read_json("extractor.json")
    header["config"]["embed_dim"] = 25
    directory.write_json("extractor.json", header)


def damage_captions(directory: Storage) -> None:
    directory.write_bytes("captions.safetensors", b"{}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_tensors, "not written together"),
        (damage_version, "format version 9, this program reads 1"),
        (damage_config, "is damaged: unknown configuration key 'colour'"),
        (damage_shape, "does not fit the network"),
        (damage_captions, r"captions\.safetensors is damaged"),
    ],
)
def test_a_damaged_extractor_does_not_load(saved, damage, message):
    damage(saved)
    with pytest.raises(ArtefactError, match=message):
        load_extractor(saved, captions=True)


def test_accuracy_counts_the_nearest_captions(extractor):
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    names = ["thick haze", "large rain", "small snow"]
    with torch.no_grad():
        texts = extractor.captions(names)
    cosines = torch.nn.functional.normalize(extractor.embed(images.float() / 255)) @ texts.T
    nearest = [names[place] for place in cosines.argmax(dim=1).tolist()]
    patches = ArrayPatches(images)
    assert degree_accuracy(extractor, patches, nearest, candidates=names) == 1.0
    wrong = [names[(names.index(n) + 1) % 3] for n in nearest[:2]] + nearest[2:]
    assert degree_accuracy(extractor, patches, wrong, candidates=names) == pytest.approx(3 / 5)


def test_accuracy_needs_the_text_tower_and_a_caption_for_each_patch(extractor, saved):
    patches = ArrayPatches(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="without its text tower"):
        degree_accuracy(load_extractor(saved), patches, ["a", "b"])
    with pytest.raises(ValueError, match="2 patches cannot be scored with 1 captions"):
        degree_accuracy(extractor, patches, ["a"])


@pytest.fixture
def tiny_vit(tmp_path):
    """A CLIP architecture under a name of its own, as open_clip's users add them."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16,
                       "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    path = tmp_path / "expertree-tiny-vit.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    torch.manual_seed(3)
    model = CustomTextCLIP(16, config["vision_cfg"], config["text_cfg"])
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights)
    yield model.eval(), str(weights)
    path.unlink()
    open_clip.factory._rescan_model_configs()


def test_pretrained_weights_of_a_named_architecture_are_loaded_from_a_path(tiny_vit):
    model, weights = tiny_vit
    clip = ClipConfig(name="expertree-tiny-vit", pretrained=weights)
    extractor = build_extractor(ExtractorConfig(clip=clip, embed_dim=16, view_px=32))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.visual((images - extractor.mean) / extractor.std)
    torch.testing.assert_close(extractor.embed(images), expected)
    assert extractor.captions(["a photograph in the rain"]).shape == (1, 16)


def test_a_stored_pretrained_extractor_needs_its_weights_file_no_more(tiny_vit, tmp_path):
    _, weights = tiny_vit
    clip = ClipConfig(name="expertree-tiny-vit", pretrained=weights)
    extractor = build_extractor(ExtractorConfig(clip=clip, embed_dim=16, view_px=32))
    directory = Storage.open(tmp_path / "stored")
    save_extractor(extractor, directory)
    (tmp_path / "weights.safetensors").unlink()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_extractor(directory).embed(images), extractor.embed(images))


@pytest.mark.usefixtures("tiny_vit")
def test_a_tower_with_positions_cannot_look_at_images_of_any_size():
    clip = ClipConfig(name="expertree-tiny-vit")
    config = ExtractorConfig(clip=clip, embed_dim=16, view_px=32, view="full")
    with pytest.raises(ConfigError, match=r"view=full .* has learnt its positions .* for 32 px"):
        build_extractor(config)


def test_the_view_is_what_the_tower_sees(extractor):
    images = torch.rand(1, 3, 48, 40)
    seen = {}
    for view in ("centre_crop", "resize", "full"):
        own = build_extractor(dataclasses.replace(CONFIG, view=view), seed=1)
        seen[view] = own.embed(images)
        with torch.no_grad():
            expected = extractor.encode(VIEWS[view](images, 32))
        torch.testing.assert_close(seen[view], expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(seen["full"], seen["resize"], atol=1e-3)


def test_a_spread_is_the_mean_over_windows_and_of_a_patch_the_patch(extractor):
    own = build_extractor(dataclasses.replace(CONFIG, view="spread"), seed=1)
    image = torch.rand(1, 3, 100, 40)
    cut = [image[..., top : top + 32, left : left + 32] for top in (0, 34, 68) for left in (0, 8)]
    expected = torch.stack([extractor.embed(window) for window in cut]).mean(dim=0)
    torch.testing.assert_close(own.embed(image), expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(own.embed(cut[0]), extractor.embed(cut[0]))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (ClipConfig(name="expertree-tiny-vit", pretrained="/nowhere.pt"), "cannot be had"),
        (ClipConfig(name="ViT-of-nobody"), "cannot be had"),
        (ClipConfig(image_tower="resnet-of-nobody"), "'resnet-of-nobody' cannot be built"),
        (ClipConfig(name="expertree-tiny-vit"), "embed_dim is 24, but .* have length 16"),
    ],
)
@pytest.mark.usefixtures("tiny_vit")
def test_a_model_that_cannot_be_had_is_a_config_error(clip, message):
    with pytest.raises(ConfigError, match=message):
        build_extractor(ExtractorConfig(clip=clip, embed_dim=24, view_px=32))


def test_pretrained_weights_need_an_architecture():
    with pytest.raises(ValueError, match="name is empty"):
        ClipConfig(pretrained="laion2b_s34b_b79k")
