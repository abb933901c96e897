"""One photograph: into a file, through standard input and output, through pipes."""

import io
import os
import sys
import threading

from PIL import Image as PillowImage

from expertree.batch.manifest import MANIFEST
from photo_folders import DONE, FAILED, USAGE, files_below, opened


def test_one_file_into_a_file_takes_its_format(photos, tmp_path, restore) -> None:
    target = tmp_path / "b.png"
    assert restore(photos / "trip" / "b.webp", to=target) == DONE
    assert opened(target).format == "PNG"
    assert set(files_below(tmp_path)) & {MANIFEST} == set()
    assert restore(photos / "trip" / "b.webp", to=target) == USAGE
    assert restore(photos / "trip" / "b.webp", "--overwrite", to=target) == DONE


def test_standard_input_to_standard_output(photos, restore, monkeypatch, capfdbinary) -> None:
    class Stream:
        buffer = io.BytesIO((photos / "c.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    assert restore("-", to="-") == DONE
    shown = capfdbinary.readouterr()
    assert PillowImage.open(io.BytesIO(shown.out)).size == (56, 40)
    assert b"expert" in shown.err
    assert restore(photos / "broken.png", to="-") == FAILED
    assert b"broken.png is truncated: its end is missing" in capfdbinary.readouterr().err


def test_a_stream_takes_the_format_of_its_outputs_name(
    photos, tmp_path, restore, monkeypatch
) -> None:
    class Stream:
        buffer = io.BytesIO((photos / "d.bmp").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    assert restore("-", to=tmp_path / "OUT.JPG") == DONE
    assert opened(tmp_path / "OUT.JPG").format == "JPEG"


def test_a_pipe_is_read_once_and_written_as_it_is(photos, tmp_path, restore) -> None:
    names = [tmp_path / "in", tmp_path / "out.png"]
    for name in names:
        os.mkfifo(name)
    data = (photos / "c.png").read_bytes()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=names[0].write_bytes, args=(data,)),
        threading.Thread(target=lambda: found.append(names[1].read_bytes())),
    ]
    for thread in threads:
        thread.start()
    assert restore(names[0], to=names[1]) == DONE
    for thread in threads:
        thread.join(timeout=60)
    assert PillowImage.open(io.BytesIO(found[0])).size == (56, 40)
