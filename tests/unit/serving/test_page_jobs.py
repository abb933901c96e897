"""The page's jobs, run by Node against an endpoint made of words: none is lost, none is left."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from expertree import serving

PAGE = Path(serving.__file__).parent / "page"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node runs the page's scripts here")

# A browser and an endpoint: time jumps to whatever comes next, `log` has all that was asked.
SCRIPT = """
let now = 0;
const timers = [], log = [], listeners = {};
globalThis.setTimeout = (call, ms = 0) => {
  const timer = { at: now + ms, call };
  timers.push(timer);
  return timer;
};
globalThis.clearTimeout = (timer) => {
  if (timers.includes(timer)) timers.splice(timers.indexOf(timer), 1);
};
async function turns() {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
}
async function jump() {
  await turns();
  timers.sort((one, other) => one.at - other.at);
  const next = timers.shift();
  if (next) [now] = [Math.max(now, next.at), next.call()];
}
async function outcome(promise) {
  let found = null;
  promise.then((value) => { found = { state: value.state }; },
    (error) => { found = { error: error.status ?? error.name }; });
  while (!found) await jump();
  return found;
}
async function settle() {
  for (let i = 0; i < 40; i++) await jump();
}
globalThis.sessionStorage = { getItem: () => "secret" };
globalThis.document = { baseURI: "http://here/" };
globalThis.addEventListener = (name, call) => { listeners[name] = call; };
globalThis.fetch = async (url, { method, keepalive, headers }) => {
  log.push([method, url.pathname, keepalive, headers.Authorization]);
};
const jobs = new Map();
let numJobs = 0, isDone = () => true;
/** What an endpoint answers that is well. */
function well(method, path) {
  if (method === "POST") {
    const job = `/v1/jobs/${++numJobs}`;
    jobs.set(job, now);
    return { status: 202, headers: { location: job }, body: {} };
  }
  const job = path.replace("/result", "");
  if (!jobs.has(job)) return { status: 404 };
  if (method === "DELETE") jobs.delete(job);
  if (path !== job || method === "DELETE") return { status: 200, body: {} };
  return { status: 200, body: { state: isDone(now - jobs.get(job)) ? "done" : "running" } };
}
let answer = well;
globalThis.XMLHttpRequest = class {
  upload = {};
  open(method, url) { [this.method, this.path] = [method, url.pathname]; }
  setRequestHeader() {}
  getAllResponseHeaders() {
    const named = { "content-type": "application/json", ...this.found.headers };
    return Object.entries(named).map(([name, value]) => `${name}: ${value}`).join("\\r\\n");
  }
  abort() {
    clearTimeout(this.timer);
    log.push(["abort", this.path]);
    this.onabort();
  }
  send(file) {
    log.push([this.method, this.path]);
    if (file) this.timer = setTimeout(() => this.upload.onload?.(), 1);
    const reply = () => {
      this.found = answer(this.method, this.path);
      this.status = this.found.status;
      this.response = new Blob([JSON.stringify(this.found.body ?? {})]);
      if (this.status) this.onload();
      else this.onerror();
      this.onloadend();
    };
    this.timer = setTimeout(reply, 10);
  }
};
const { restoreAsJob } = await import(process.argv[1]);
const stop = new AbortController();
const watcher = { signal: stop.signal, onUpload() {}, onTiles() {}, onWait() {} };
const photo = new Blob(["a photo"]);
const ask = () => restoreAsJob(photo, {}, watcher);
const found = await (async () => { BODY })();
await settle();
console.log(JSON.stringify({ found, log, left: [...jobs.keys()] }));
"""


@pytest.fixture(scope="module")
def jobs_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name in ("api.js", "jobs.js"):
        shutil.copy(PAGE / name, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder / "jobs.js"


@pytest.fixture
def run(jobs_js: Path) -> Any:
    """Runs the body of a scenario; what it returns, what was asked, and the jobs left over."""

    def run_body(body: str) -> tuple[Any, list[Any], list[str]]:
        script = SCRIPT.replace("BODY", body)
        command = [str(NODE), "--input-type=module", "-e", script, jobs_js.as_uri()]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
        told = json.loads(done.stdout)
        return told.get("found"), told["log"], told["left"]

    return run_body


JOB = "/v1/jobs/1"
WHOLE = [["POST", "/v1/jobs"], ["GET", JOB], ["GET", f"{JOB}/result"], ["DELETE", JOB]]


def test_a_job_is_followed_and_deleted_when_its_result_is_here(run: Any) -> None:
    found, log, left = run("return await outcome(ask());")
    assert (found, log, left) == ({"state": "done"}, WHOLE, [])


def test_a_long_job_is_asked_after_ever_more_seldom_within_the_limit_of_a_key(run: Any) -> None:
    found, log, left = run(
        """
        let left = 20, then = 0;
        isDone = (age) => age > 120_000;
        answer = (method, path) => {
          left = Math.min(20, left + (now - then) / 6000);
          then = now;
          if (left < 1) return { status: 429, headers: { "retry-after": 6 } };
          left--;
          return well(method, path);
        };
        return await outcome(ask());
        """
    )
    assert found == {"state": "done"}
    assert left == []
    assert [list(own) for own in dict.fromkeys(map(tuple, log))] == WHOLE
    assert len(log) < 60  # in two minutes


@pytest.mark.parametrize("status", [0, 502, 503, 504, 429])
@pytest.mark.parametrize("what", ["GET /v1/jobs/1", "GET /v1/jobs/1/result", "DELETE /v1/jobs/1"])
def test_no_job_is_thrown_away_because_something_did_not_get_through(
    run: Any, status: int, what: str
) -> None:
    found, log, left = run(
        f"""
        let count = 0;
        const headers = {status} === 429 ? {{ "retry-after": 1 }} : {{}};
        answer = (method, path) => (`${{method}} ${{path}}` === "{what}" && ++count < 4
          ? {{ status: {status}, headers }} : well(method, path));
        return await outcome(ask());
        """
    )
    assert found == {"state": "done"}
    assert left == []
    assert log == [own for own in WHOLE for _ in range(4 if " ".join(own) == what else 1)]


def test_one_that_cannot_be_reached_any_more_is_gone_on_with_when_it_is_asked_for_again(
    run: Any,
) -> None:
    found, log, left = run(
        """
        answer = (method, path) => (method === "POST" ? well(method, path) : { status: 0 });
        const first = await outcome(ask());
        answer = well;
        return [first, await outcome(ask())];
        """
    )
    assert found == [{"error": 0}, {"state": "done"}]
    assert left == []
    assert [own[0] for own in log].count("POST") == 1


def test_one_that_the_endpoint_has_lost_is_asked_for_anew_and_only_once(run: Any) -> None:
    found, log, left = run(
        """
        let lost = 1;
        answer = (method, path) => {
          if (method === "GET" && lost-- > 0) jobs.clear();
          return well(method, path);
        };
        const first = await outcome(ask());
        lost = 9;
        return [first, await outcome(ask())];
        """
    )
    assert found == [{"state": "done"}, {"error": 404}]
    assert left == []
    assert [own[0] for own in log].count("POST") == 4


def test_one_that_has_failed_is_deleted(run: Any) -> None:
    found, log, left = run(
        """
        const failed = { state: "failed", problem: { status: 422, title: "damaged" } };
        answer = (method, path) => (method === "GET" ? { status: 200, body: failed }
          : well(method, path));
        return await outcome(ask());
        """
    )
    assert (found, left) == ({"error": 422}, [])
    assert log == [WHOLE[0], WHOLE[1], WHOLE[3]]


@pytest.mark.parametrize(
    ("after_ms", "is_sent"), [(0, False), (5, True), (400, True)], ids=["sending", "sent", "job"]
)
def test_one_that_is_stopped_is_deleted_even_if_its_place_is_not_known_yet(
    run: Any, after_ms: int, is_sent: bool
) -> None:
    found, log, left = run(
        f"""
        isDone = () => false;
        setTimeout(() => stop.abort(), {after_ms});
        return await outcome(ask());
        """
    )
    assert (found, left) == ({"error": "AbortError"}, [])
    assert (["DELETE", JOB] in log) == is_sent
    assert (["abort", "/v1/jobs"] in log) == (not is_sent)


def test_what_is_left_when_the_page_goes_is_deleted_and_nothing_else(run: Any) -> None:
    _, log, left = run(
        """
        await outcome(ask());
        isDone = () => false;
        setTimeout(() => listeners.pagehide(), 500);
        ask().catch(() => null);
        for (let i = 0; i < 9; i++) await jump();
        jobs.clear();
        stop.abort();
        """
    )
    assert [own for own in log if len(own) > 2] == [
        ["DELETE", "/v1/jobs/2", True, "Bearer secret"],
    ]
    assert left == []
