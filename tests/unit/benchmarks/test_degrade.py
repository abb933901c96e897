"""The benchmark of synthesis against training, at its smallest."""

import pytest

from expertree.benchmarks.degrade import LITE_NAF, DegradeConfig, measure_degradation
from expertree.degradation.registry import REGISTRY
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.registry import describe_backbone


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    return measure_degradation(
        DegradeConfig(
            size_px=48,
            num_images=1,
            num_pairs=1,
            batch_size=2,
            patch_px=16,
            num_rows=14,
            backbone=NAFNetConfig(width=4, encoder=(1,), middle=0, decoder=(1,)),
        )
    )


def test_every_degradation_and_mixtures_have_a_rate(found) -> None:
    assert set(found["images_per_s"]) == {*REGISTRY, "mixed"}
    assert min(found["images_per_s"].values()) > 0


def test_the_ratio_is_that_of_the_two_rates(found) -> None:
    ratio = found["samples_made_per_s"] / found["samples_trained_per_s"]
    assert found["synthesis_over_training"] == pytest.approx(ratio, rel=0.05)


def test_the_default_network_is_the_papers_litenaf() -> None:
    assert describe_backbone(LITE_NAF).num_parameters == pytest.approx(17.11e6, rel=1e-3)
