"""The page's ZIP archive, made by Node where it is there and read by Python."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from expertree import serving

ZIP_JS = Path(serving.__file__).parent / "page" / "zip.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node runs the page's script here")

SCRIPT = """
const { distinct, makeZip } = await import(process.argv[1]);
const names = distinct(JSON.parse(process.argv[2]));
const time = new Date(2024, 1, 29, 23, 59, 58);
const files = names.map((name) => ({ name, blob: new Blob([`of ${name}`]), time }));
process.stdout.write(Buffer.from(await (await makeZip(files)).arrayBuffer()));
"""


def zipped(folder: Path, *paths: str) -> zipfile.ZipFile:
    """An archive of a file for each path, which holds its name in it."""
    module = folder / "zip.mjs"
    shutil.copy(ZIP_JS, module)
    command = [str(NODE), "--input-type=module", "-e", SCRIPT, module.as_uri(), json.dumps(paths)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    (folder / "made.zip").write_bytes(done.stdout)
    return zipfile.ZipFile(folder / "made.zip")


def test_other_programs_read_names_content_and_times(tmp_path: Path) -> None:
    with zipped(tmp_path, "a.jpg", "été/日本.png") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.jpg", "été/日本.png"]
        assert archive.read("été/日本.png").decode() == "of été/日本.png"
        assert archive.getinfo("a.jpg").date_time == (2024, 2, 29, 23, 59, 58)


def test_no_file_of_an_archive_replaces_another_wherever_it_is_unpacked(tmp_path: Path) -> None:
    with zipped(tmp_path, "a.jpg", "a.jpg", "A.JPG", "a (2).jpg", "x/none", "x/none") as archive:
        assert archive.namelist() == [
            *("a.jpg", "a (2).jpg", "A (3).JPG", "a (2) (2).jpg", "x/none", "x/none (2)"),
        ]


def test_no_name_leads_out_of_the_folder_that_an_archive_is_unpacked_in(tmp_path: Path) -> None:
    with zipped(tmp_path, "..\\..\\a.jpg") as archive:
        assert archive.namelist() == [".._.._a.jpg"]
