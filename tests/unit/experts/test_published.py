"""Published weights open under the public names, or say in which names they differ."""

import os
from collections import OrderedDict

import pytest
import safetensors.torch
import torch

from expertree.errors import ArtefactError
from expertree.experts.backbones import backbone_config, build_backbone
from expertree.experts.published import (
    check_published,
    find_published,
    load_published,
    read_published,
)

THREE = (1, 1, 1)
U_NET = {"encoder": THREE, "middle": 1, "decoder": THREE}
KINDS = {
    "nafnet": {"width": 4},
    "restormer": {"width": 4, "heads": (1, 1, 2, 2), "refinement": 1, **U_NET},
    "retinexformer": {"width": 4, "encoder": (1, 1), "middle": 1},
    "promptir": {
        "width": 4,
        "heads": (1, 1, 2, 2),
        "refinement": 1,
        "prompts": 2,
        "prompt_widths": (8, 4, 4),
        "prompt_px": (2, 4, 8),
        **U_NET,
    },
    "adair": {"width": 4, "heads": (1, 1, 2, 2), "refinement": 1, **U_NET},
    "moce_ir": {"width": 4, "heads": (1, 1, 2, 2), "refinement": 1, "windows": (2, 4), **U_NET},
    "airnet": {"width": 4, "groups": 1, "blocks": 1, "embedding": 8, "queue": 6},
}


def backbone(name="restormer", **sizes):
    return backbone_config(name, **(KINDS[name] | sizes))


def network(name="restormer", **sizes):
    torch.manual_seed(len(sizes))
    return build_backbone(backbone(name, **sizes))


@pytest.fixture(scope="module")
def trained():
    """Weights unlike fresh ones."""
    source = network()
    for parameter in source.parameters():
        parameter.data.normal_()
    return OrderedDict(source.state_dict())


def wrapped(weights, wrapper="module."):
    return OrderedDict((f"{wrapper}{name}", value) for name, value in weights.items())


FORMS = {
    "bare.pth": lambda weights: weights,
    "params.pth": lambda weights: {"params": weights},
    "average.pth": lambda weights: {
        "params": {name: torch.zeros_like(value) for name, value in weights.items()},
        "params_ema": weights,
    },
    "parallel.ckpt": lambda weights: {"epoch": 3, "state_dict": wrapped(weights)},
    "lightning.ckpt": lambda weights: {"state_dict": wrapped(weights, "net.")},
    "nested.pt": lambda weights: {"state_dict": {"params": weights}},
    "half.bin": lambda weights: {name: value.half() for name, value in weights.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_public_form_of_a_state_dict_opens(trained, tmp_path, form):
    torch.save(FORMS[form](trained), tmp_path / form)
    target = network()
    load_published(target, backbone(), find_published(str(tmp_path / form)))
    for name, value in target.state_dict().items():
        expected = trained[name].half().float() if form == "half.bin" else trained[name]
        assert torch.equal(value, expected), name


def drawn_like(value):
    """Other numbers; a count of batches is a whole one."""
    return torch.randn_like(value) if value.is_floating_point() else torch.full_like(value, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_safetensors_open_for_every_kind(tmp_path, kind):
    weights = {name: drawn_like(value) for name, value in network(kind).state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    target = network(kind)
    load_published(target, backbone(kind), find_published(str(tmp_path / "weights.safetensors")))
    assert all(torch.equal(value, weights[name]) for name, value in target.state_dict().items())


UNUSED = {
    "promptir": {
        "chnl_reduce1.weight": (64, 64, 1, 1),
        "reduce_noise_channel_3.weight": (4, 8, 1, 1),
    },
    "adair": {"fre1.conv.weight": (32, 3, 3, 3), "fre3.score_gen.bias": (2,)},
    # What only training needs: the slow copy of the encoder, the queue and the place in it.
    "airnet": {"E.E.encoder_k.mlp.2.bias": (8,), "E.E.queue": (8, 6), "E.E.queue_ptr": (1,)},
}


@pytest.mark.parametrize("kind", UNUSED)
def test_layers_that_public_code_defines_and_never_uses_are_passed_over(tmp_path, kind):
    weights = dict(network(kind).state_dict())
    extra = {name: torch.zeros(shape) for name, shape in UNUSED[kind].items()}
    torch.save({"state_dict": wrapped(weights | extra, "net.")}, tmp_path / "released.ckpt")
    target = network(kind)
    target.load_state_dict({name: torch.zeros_like(value) for name, value in weights.items()})
    load_published(target, backbone(kind), find_published(str(tmp_path / "released.ckpt")))
    assert all(torch.equal(value, weights[name]) for name, value in target.state_dict().items())


def test_a_file_that_would_run_code_is_not_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-here"),)

    torch.save({"params": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ArtefactError, match="cannot be read as weights alone"):
        read_published(find_published(str(tmp_path / "evil.pth")))
    assert not (tmp_path / "was-here").exists()


def test_every_name_that_differs_is_counted_and_some_are_named(trained, tmp_path):
    weights = dict(trained)
    for block in ("encoder_level1", "latent", "refinement", "decoder_level1"):
        del weights[f"{block}.0.norm1.body.bias"]
    weights["skip_conv.weight"] = torch.zeros(16, 8, 1, 1)
    weights["output.weight"] = torch.zeros(1, 8, 3, 3)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(ArtefactError) as raised:
        load_published(network(), backbone(), find_published(str(tmp_path / "other.pth")))
    message = str(raised.value)
    assert "4 missing (encoder_level1.0.norm1.body.bias, " in message
    assert ", ...), 1 unknown (skip_conv.weight)" in message
    assert "1 of another shape (output.weight [1, 8, 3, 3] (not [3, 8, 3, 3]))" in message


def test_weights_of_another_width_say_how_many_shapes_differ(trained, tmp_path):
    torch.save(trained, tmp_path / "narrow.pth")
    wide = backbone("restormer", width=16)
    with pytest.raises(ArtefactError, match=r"\d\d of another shape \(patch_embed.proj.weight"):
        check_published(wide, find_published(str(tmp_path / "narrow.pth")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", {}, "is empty"),
        ("a.pth", {"lr": 0.1, "epoch": 3}, "lr, epoch are not tensors"),
        ("a.pth", [1, 2], "holds list"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path, name, content, message):
    torch.save(content, tmp_path / name)
    with pytest.raises(ArtefactError, match=message):
        read_published(find_published(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pth", b"PK\x03\x04half", "cannot be read as weights alone"),
        ("a.pth", b"", "cannot be read as weights alone"),
        ("a.safetensors", b"\x00" * 20, "is damaged"),
        ("a.onnx", b"1", "is none of .safetensors, .pth"),
    ],
)
def test_a_damaged_or_strange_file_is_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=message):
        read_published(find_published(str(tmp_path / name)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing\.pth cannot be read"):
        find_published(str(tmp_path / "nothing.pth"))


def test_a_file_that_changed_after_planning_is_refused(trained, tmp_path):
    torch.save(trained, tmp_path / "a.pth")
    planned = find_published(str(tmp_path / "a.pth"))
    torch.save({"params": trained}, tmp_path / "a.pth")
    with pytest.raises(ArtefactError, match="has changed"):
        read_published(planned)
