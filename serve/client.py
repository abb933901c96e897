"""A client of the endpoint that needs nothing but Python.

    python serve/client.py photo.jpg restored.jpg --url http://127.0.0.1:8000 --instruction rain

It waits and comes back where the endpoint is busy, and asks for a job where the photo is large.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LARGE_BYTES = 4 << 20
"""Files from this size on are restored as jobs, of which one can see how far they are."""

MOST_TRIES = 8


class Endpoint:
    """An endpoint, and the key to it if it wants one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._prefix = urllib.parse.urlsplit(self._url).path
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def restore(self, image: bytes, options: Mapping[str, str]) -> tuple[bytes, str]:
        """Restore an image in one request.

        Args:
            image: Its file.
            options: For example `level`, `expert`, `instruction`, `strength`, `format`.

        Returns:
            The restored file, and the route as the header says it: `as-is` where nothing was done.

        Raises:
            RuntimeError: With what the endpoint says is wrong.
        """
        headers, body = self._ask("POST", f"/v1/restore?{urllib.parse.urlencode(options)}", image)
        return body, headers["X-Restore-Route"]

    def restore_as_job(
        self, image: bytes, options: Mapping[str, str], idempotency_key: str
    ) -> Iterator[dict[str, Any]]:
        """Restore an image as a job, telling how far it is; its file is the last one's `file`.

        Args:
            image: Its file.
            options: As for `restore`.
            idempotency_key: Of the caller's making; the same one is the same job, so that asking
                again after a lost answer costs nothing.

        Raises:
            RuntimeError: With what the endpoint says is wrong.
        """
        path = f"/v1/jobs?{urllib.parse.urlencode(options)}"
        headers, _ = self._ask("POST", path, image, {"Idempotency-Key": idempotency_key})
        job = headers["Location"]
        while True:
            _, body = self._ask("GET", job)
            state = json.loads(body)
            if state["state"] == "failed":
                raise RuntimeError(state["problem"]["detail"])
            if state["state"] == "done":
                _, state["file"] = self._ask("GET", state["result"])
                self._ask("DELETE", job)
                yield state
                return
            yield state
            time.sleep(0.5)

    def _ask(
        self, method: str, path: str, body: bytes | None = None, more: Mapping[str, str] = {}
    ) -> tuple[Mapping[str, str], bytes]:
        """One request, sent again while the endpoint is busy and says when to come back."""
        headers = {"Content-Type": "application/octet-stream", **self._headers, **more}
        path = path.removeprefix(self._prefix)  # which an endpoint that is told of it repeats
        for _ in range(MOST_TRIES):
            request = urllib.request.Request(self._url + path, body, headers, method=method)
            try:
                with urllib.request.urlopen(request) as answer:
                    return answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                problem = json.loads(error.read() or b"{}")
                wait_s = error.headers.get("Retry-After")
                if error.code not in {429, 503} or wait_s is None:
                    raise RuntimeError(problem.get("detail", str(error))) from error
                time.sleep(float(wait_s))
        raise RuntimeError(f"{self._url} was busy {MOST_TRIES} times in a row")


def main() -> None:
    """Restore one file."""
    parser = argparse.ArgumentParser(description="Restore a photo on an endpoint.")
    parser.add_argument("image", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--instruction", help="what is wrong, as in: rain,noise")
    parser.add_argument("--strength", help="of the restoration, 0 to 1")
    parser.add_argument("--insist", action="store_const", const="true", help="restore in any case")
    parser.add_argument("--format", help="png, jpeg, webp, bmp or tiff")
    arguments = parser.parse_args()
    endpoint = Endpoint(arguments.url, os.environ.get("EXPERTREE_KEY"))
    image = arguments.image.read_bytes()
    named = {
        name: getattr(arguments, name) for name in ("instruction", "strength", "insist", "format")
    }
    options = {name: value for name, value in named.items() if value}
    if len(image) < LARGE_BYTES:
        restored, route = endpoint.restore(image, options)
        print(route)
    else:
        for state in endpoint.restore_as_job(image, options, os.urandom(16).hex()):
            print(f"{state['state']}: {state['tiles_done']} of {state['num_tiles']} tiles")
        restored = state["file"]
    arguments.output.write_bytes(restored)


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
