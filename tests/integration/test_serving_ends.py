"""`expertree serve` is told to end while it works: what has begun is answered, nothing is left."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from expertree import Restorer
from expertree.benchmarks.client import Answer, Client
from expertree.benchmarks.fresh import fresh_bundle
from expertree.images.io import decode_u8, encode_png
from expertree.routing import Wish
from expertree.storage import Storage
from killing import marked
from photographs import random_u8
from served import SMALL, free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

JOB = Path(__file__).parents[2] / "jobs" / "serve.py"
MARK = "EXPERTREE_TEST_SERVE"


def test_sigterm_lets_requests_end_and_leaves_no_process(tmp_path: Path) -> None:
    bundle, port = fresh_bundle(Storage.open(tmp_path / "b"), SMALL, seed=1).uri, free_port()
    mark = secrets.token_hex(8)
    settings = [f"bundle={bundle}", f"http.port={port}", "num_cores=1", "gateway.num_cpus=0.1"]
    settings += ["router.num_cpus=0.1", "pools=[{num_cpus: 0.1}]"]
    command = [sys.executable, JOB, *settings]
    answers: list[Answer] = []
    with subprocess.Popen(
        command, env=os.environ | {MARK: mark}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "is served at" in process.stdout.readline()
            image = random_u8(900, 900)

            def ask() -> None:
                with Client(f"http://127.0.0.1:{port}", timeout_s=300.0) as client:
                    path = "/v1/restore?expert=0&tile=64"
                    answers.append(client.ask("POST", path, encode_png(image)))

            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(2.0)
            assert asking.is_alive(), "it was done before it was told to end"
            process.send_signal(signal.SIGTERM)
            asking.join(timeout=300)
            assert process.wait(timeout=300) == 0
        finally:
            process.kill()
    assert [answer.status for answer in answers] == [200]
    expected = Restorer.load(bundle).restore(image, Wish(expert=0, tile_px=64)).image
    assert np.array_equal(decode_u8(answers[0].body), expected)
    deadline_s = time.monotonic() + 60
    while left := marked(MARK, mark):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.5)
