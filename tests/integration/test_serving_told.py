"""A network that is told of the whole image, on Serve: what it is told travels with its tiles."""

from pathlib import Path

import numpy as np
import pytest

from expertree import Restorer
from expertree.benchmarks.fresh import fresh_bundle
from expertree.experts.backbones.sler_ir import SLERIRConfig
from expertree.orchestration.serving.app import serving
from expertree.routing import Wish
from expertree.storage import Storage
from photographs import random_u8
from served import Endpoint, config_of, free_port
from told import ONES, SIZES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_its_tiles_are_restored_on_serve_as_in_one_process(tmp_path: Path) -> None:
    network = SLERIRConfig(**ONES, **SIZES, prior_width=8)
    bundle = fresh_bundle(Storage.open(tmp_path), network, seed=1).uri
    restorer, image = Restorer.load(bundle), random_u8(150, 131)
    with serving(config_of(bundle, free_port())) as running:
        endpoint = Endpoint(running)
        for query, wish in (
            ("?expert=0&tile=96", Wish(expert=0, tile_px=96)),
            ("?insist=true", Wish(insist=True)),
        ):
            restored, _ = endpoint.restore_until_done(image, query)
            assert np.array_equal(restored, restorer.restore(image, wish).image), query
