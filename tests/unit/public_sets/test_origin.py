"""What the row of a bundle says that it costs, beside whole models of others."""

from pathlib import Path

from torch import nn

from expertree.embedding import look
from expertree.experts.backbones import describe_backbone
from expertree.experts.weights import read_card
from expertree.hierarchy import ROOT
from expertree.public_sets.origin import origin_of
from expertree.restorer import open_bundle
from expertree.routing.costs import counted
from expertree.storage import Storage


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_all_experts_extractor_and_routers_count_and_what_runs_stands_beside_them(
    bundle_path: Path,
) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    origin = origin_of(bundle)
    num_experts = len(bundle.manifest.experts)
    assert num_experts > 1
    network = describe_backbone(bundle.backbone(ROOT))
    beside = size(bundle.extractor) + size(bundle.router)
    assert origin.num_parameters == beside + num_experts * network.num_parameters
    assert origin.num_active_parameters == beside + network.num_parameters
    looking = counted(lambda image: look(bundle.extractor, image, ("embedding",)), 256)
    assert origin.multiply_adds_256 - network.multiply_adds_512 // 4 >= looking > 0
    assert origin.training_samples == 8 * num_experts


def test_adapters_count_as_what_they_bring_to_the_root(adapter_bundle_path: Path) -> None:
    bundle = open_bundle(Storage.open(adapter_bundle_path))
    brought = [
        read_card(bundle.directory.sub(entry.folder)).num_parameters
        for entry in bundle.manifest.experts
        if entry.adapter is not None
    ]
    beside = size(bundle.extractor) + size(bundle.router)
    root = describe_backbone(bundle.backbone(ROOT)).num_parameters
    assert brought
    assert origin_of(bundle).num_parameters == beside + root + sum(brought)


def test_one_expert_for_all_images_costs_its_network_alone(bundle_path: Path) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    root, other = origin_of(bundle, ROOT), origin_of(bundle, bundle.manifest.experts[-1].node)
    network = describe_backbone(bundle.backbone(ROOT))
    assert root.num_parameters == root.num_active_parameters == network.num_parameters
    assert root.multiply_adds_256 == network.multiply_adds_512 // 4
    assert (root.training_samples, other.training_samples) == (8, None)
    assert root.note == "expert 0 for every image"
