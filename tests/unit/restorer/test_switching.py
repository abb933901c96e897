"""One network for all adapters: the same bits after any switch, and twice the root's memory."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from expertree import Restorer
from expertree.experts import load_expert
from expertree.experts.backbones import build_backbone
from expertree.experts.lora import attach_adapter
from expertree.experts.weights import load_weights, read_adapter, read_card
from expertree.images.io import to_float, to_u8
from expertree.restorer import open_bundle
from expertree.restorer.bundle import Bundle
from expertree.restorer.switching import NUM_KEPT, SwitchedNetwork
from expertree.routing import Wish
from expertree.storage import Storage


def random_u8(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def restorer(adapter_bundle_path: Path) -> Restorer:
    return Restorer.load(adapter_bundle_path)


def memory(networks: list[nn.Module]) -> int:
    """Bytes of all parameters, what is shared counted once."""
    storages = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for network in networks
        for value in network.parameters()
    }
    return sum(storages.values())


def test_an_image_is_restored_as_by_pefts_unmerged_network(
    restorer: Restorer, adapter_parts: Any
) -> None:
    image = random_u8()
    root = adapter_parts.experts[0]
    for node in [node for node in restorer.tree.experts() if node != 0]:
        adapter = read_adapter(adapter_parts.experts[node])
        network = build_backbone(read_card(root).backbone, fast=False)
        load_weights(network, root)
        for name, value in attach_adapter(network, adapter.config).items():
            value.data.copy_(adapter.tensors[name])
        with torch.no_grad():
            expected = network.eval()(to_float(image)[None])[0].clamp(0, 1)
        restored = restorer.restore(to_float(image), Wish(expert=node)).image
        torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5)


def test_experts_are_the_same_to_the_bit_however_they_are_switched(
    restorer: Restorer, adapter_parts: Any
) -> None:
    image, nodes = random_u8(), restorer.tree.experts()
    first = {node: restorer.restore(image, Wish(expert=node)).image for node in nodes}
    assert len({result.tobytes() for result in first.values()}) == len(nodes)
    for node in (*reversed(nodes), *nodes, nodes[-1], 0, nodes[-1]):
        assert np.array_equal(restorer.restore(image, Wish(expert=node)).image, first[node])
    for node in nodes:
        alone = load_expert(adapter_parts.experts[node], root=adapter_parts.experts[0])
        with torch.inference_mode():
            assert np.array_equal(to_u8(alone(to_float(image)[None])[0]), first[node])


def test_all_experts_together_need_twice_the_roots_memory(restorer: Restorer) -> None:
    for node in restorer.tree.experts():
        restorer.restore(random_u8(), Wish(expert=node))
    assert list(restorer._experts) == [0]
    root, switched = restorer._experts[0], restorer._switched
    assert switched is not None
    with switched.expert(1) as network:
        scales = [n for n, _ in root.named_parameters() if n.endswith(("beta", "gamma"))]
        for name in scales:
            assert network.get_parameter(name).data_ptr() == root.get_parameter(name).data_ptr()
        assert memory([root]) < memory([root, network]) < 2 * memory([root])


def test_few_adapters_are_kept_and_none_is_read_twice_in_a_row(
    adapter_bundle_path: Path,
) -> None:
    bundle, read = open_bundle(Storage.open(adapter_bundle_path)), []
    adapter = bundle.load_adapter(1)

    def counted(node: int) -> Any:
        read.append(node)
        return adapter

    switched = SwitchedNetwork(bundle.load_expert(0), adapter.changed, counted)
    for node in (1, 1, 2, 1, 2, *range(3, 3 + NUM_KEPT), 2):
        with switched.expert(node):
            pass
    assert read == [1, 2, *range(3, 3 + NUM_KEPT), 2]


def test_threads_that_want_different_experts_get_what_one_alone_gets(restorer: Restorer) -> None:
    image, nodes = random_u8(), [node for node in restorer.tree.experts() if node != 0]
    expected = {node: restorer.restore(image, Wish(expert=node)).image for node in nodes}
    wanted = nodes * 4
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda node: restorer.restore(image, Wish(expert=node)).image, wanted))
    assert all(
        np.array_equal(image, expected[node]) for node, image in zip(wanted, got, strict=True)
    )


def test_an_expert_in_use_is_not_switched_away(adapter_bundle_path: Path) -> None:
    bundle = open_bundle(Storage.open(adapter_bundle_path))
    changed = bundle.load_adapter(1).changed
    switched = SwitchedNetwork(bundle.load_expert(0), changed, bundle.load_adapter)
    other = threading.Event()

    def use_the_other() -> None:
        with switched.expert(2):
            other.set()

    with switched.expert(1) as network:
        before = network.get_parameter("intro.weight").clone()
        thread = threading.Thread(target=use_the_other)
        thread.start()
        assert not other.wait(0.05)
        assert torch.equal(network.get_parameter("intro.weight"), before)
    thread.join()
    assert other.is_set()


def test_an_adapter_that_cannot_be_read_leaves_the_others_as_they_were(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = random_u8()
    expected = restorer.restore(image, Wish(expert=1)).image

    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "load_adapter", fail)
        with pytest.raises(OSError, match="gone"):
            restorer.restore(image, Wish(expert=2))
    assert np.array_equal(restorer.restore(image, Wish(expert=1)).image, expected)


def test_a_bundle_of_adapters_is_used_without_peft(
    adapter_bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    restorer = Restorer.load(adapter_bundle_path)
    assert restorer.restore(random_u8(), Wish(expert=1)).image.shape == (40, 50, 3)
