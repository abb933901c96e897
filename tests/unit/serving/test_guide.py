"""Commands of docs/HTTP.md, with a photograph as large as real ones."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

GUIDE = (Path(__file__).parents[3] / "docs" / "HTTP.md").read_text()


def test_the_json_example_takes_a_photograph_of_any_size(tmp_path: Path) -> None:
    """Linux limits one argument of a command to 128 KiB."""
    (found,) = re.findall(r"^    (\{ printf .*\n.*)$", GUIDE, flags=re.MULTILINE)
    photo = os.urandom(1_000_000)
    (tmp_path / "photo.jpg").write_bytes(photo)
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\necho "$@" > told\ncat > body\n')
    curl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", found], cwd=tmp_path, check=True, env={"PATH": path}, timeout=60)
    body = json.loads((tmp_path / "body").read_text())
    assert base64.b64decode(body.pop("image")) == photo
    assert body == {"level": 1}
    assert "-d @-" in (tmp_path / "told").read_text()
