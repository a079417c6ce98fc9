"""Whatever the Hub, the network or the cache does: the right weights, bit for bit, or one error that says what to do.

The clients are the real ones, in a process of their own; the faults are the server's. Nothing is patched.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import time

import pytest
from hub_server import Hub, Repo

from budgetnets.hub import HUB_FILENAME
from budgetnets.variants import VARIANTS
from budgetnets.weights import bundled_path

TRAINED = [(row, card) for row in VARIANTS.values() for card in row.weights]
pytestmark = pytest.mark.slow
ROW, CARD = TRAINED[0]

# Loads the variant and says what came of it, as JSON on the last line.
LOAD = """
import hashlib, json, sys, time
import {module} as entry, budgetnets
from budgetnets import weights
create = entry.create if entry is budgetnets else entry.create_model
import huggingface_hub.file_download
{before}
started = time.monotonic()
try:
    model = create({name!r}, pretrained=True, {options})
    content = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
    found = dict(error=None, state=hashlib.sha256(content).hexdigest())
except Exception as error:
    found = dict(error=type(error).__name__, message=str(error))
print(json.dumps(found | dict(seconds=time.monotonic() - started)))
"""


def load(hub_url, home, module="budgetnets", before="", options="", **environment):
    own = {"HF_HOME": str(home), "HF_ENDPOINT": hub_url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    own |= {"BUDGETNETS_WEIGHTS": "hub", "HF_HUB_DOWNLOAD_TIMEOUT": "2"} | environment
    program = LOAD.format(module=module, name=ROW.name, before=before, options=options)
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | own, capture_output=True, text=True, timeout=300
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


@pytest.fixture(scope="session")
def right(tmp_path_factory):
    """The hash of the right network's state, from the bundled file."""
    return load("http://127.0.0.1:9", tmp_path_factory.mktemp("none"), BUDGETNETS_WEIGHTS="bundled")["state"]


@pytest.fixture
def hub():
    with Hub() as hub:
        repo = hub.repos[ROW.hub_repo] = Repo()
        commit = repo.commit({HUB_FILENAME: bundled_path(ROW, CARD).read_bytes()})
        repo.refs[CARD.hub_revision] = commit
        yield hub


def served(hub):
    return hub.repos[ROW.hub_repo].commits[hub.repos[ROW.hub_repo].refs["main"]][HUB_FILENAME]


# Faults. Each is a function of the request that answers it and returns True, or lets it pass.


def on(method, part, answer, times=10**9):
    """Apply `answer` to the first `times` requests of a method whose path has `part`."""
    left = [times]

    def fault(request):
        if request.command != method or part not in request.path or left[0] <= 0:
            return False
        left[0] -= 1
        answer(request)
        return True

    return fault


def status(code, error_code=None):
    return lambda request: request.error(code, error_code)


def never(request):
    time.sleep(60)


def reset(request):
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.close_connection = True


def body(change, length=len):
    """Answer with a changed body; `length` of what it declares, None declares nothing."""

    def answer(request):
        content = served(request.hub)
        changed = change(content)
        request.send_response(200)
        if length:
            request.send_header("Content-Length", str(length(content)))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(changed)
        request.wfile.flush()
        request.close_connection = True

    return answer


def half(content):
    return content[: len(content) // 2]


def stalled(request):
    body(half)(request)
    time.sleep(30)


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


def portal(request):
    request.send(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")


ANY = ""  # any path
# name: (fault, error or None for the right network, parts of the message, most seconds)
NOT_FOUND = ("RevisionNotFound", "EntryNotFound", "RepoNotFound")
MISSING = {code: on("HEAD", "resolve", status(404, code)) for code in NOT_FOUND}
FAULTS = {
    "no fault": (None, None, [], 15),
    "revision missing": (
        on("HEAD", "resolve", status(404, "RevisionNotFound")),
        "WeightsUnavailable",
        ["Revision"],
        15,
    ),
    "file missing": (MISSING["EntryNotFound"], "WeightsUnavailable", ["EntryNotFound"], 15),
    "repository missing": (
        on("HEAD", "resolve", status(404, "RepoNotFound")),
        "WeightsUnavailable",
        ["Repository"],
        15,
    ),
    "gated": (on("HEAD", "resolve", status(403, "GatedRepo")), "WeightsUnavailable", ["Gated"], 15),
    "401": (on("HEAD", "resolve", status(401)), "WeightsUnavailable", [], 15),
    "403": (on("HEAD", "resolve", status(403)), "WeightsUnavailable", ["403"], 15),
    "429 once": (on("HEAD", "resolve", status(429), times=1), None, [], 30),
    "503 twice": (on("HEAD", "resolve", status(503), times=2), None, [], 30),
    "500 for ever": (on("HEAD", "resolve", status(500)), "WeightsUnavailable", ["500"], 15),
    "503 for ever": (on("HEAD", "resolve", status(503)), "WeightsUnavailable", ["503"], 15),
    "never answers": (on("HEAD", ANY, never), "WeightsUnavailable", ["Timeout"], 15),
    "reset on HEAD": (on("HEAD", ANY, reset), "WeightsUnavailable", [], 15),
    "reset on GET": (on("GET", "cdn", reset), "WeightsUnavailable", [], 60),
    "body dropped once": (on("GET", "cdn", body(half), times=1), None, [], 60),
    "body dropped always": (on("GET", "cdn", body(half)), "WeightsUnavailable", [], 60),
    "body stalled": (on("GET", "cdn", stalled), "WeightsUnavailable", [], 90),
    "body shorter": (on("GET", "cdn", body(half, length=lambda c: len(half(c)))), "WeightsUnavailable", [], 60),
    "body without a length": (on("GET", "cdn", body(half, length=None)), "Weights", [], 60),
    "body longer": (on("GET", "cdn", body(lambda c: c + b"x", length=lambda c: len(c) + 1)), "Weights", [], 60),
    "corrupted once": (on("GET", "cdn", body(flipped), times=1), None, [], 30),
    "corrupted always": (on("GET", "cdn", body(flipped)), "WeightsIntegrity", ["downloaded twice", "sha256"], 30),
    "captive portal": (lambda request: portal(request) or True, "WeightsUnavailable", [], 15),
}


@pytest.mark.parametrize("module", ["budgetnets", "timm"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_hub_gives_the_right_weights_or_a_clear_error(name, module, hub, right, tmp_path):
    fault, error, parts, seconds = FAULTS[name]
    if fault:
        hub.faults.append(fault)
    found = load(hub.url, tmp_path, module)
    assert found["seconds"] < seconds
    if error is None:
        assert found.get("state") == right, found
        return
    assert (found["error"] or "").startswith(error), found
    place = f"budgetnets/{ROW.name}@{CARD.hub_revision}/{HUB_FILENAME}"
    for part in (ROW.name, place, "pretrained=False", *parts):
        assert part in found["message"], found["message"]


def test_nobody_listens(right, tmp_path):
    found = load("http://127.0.0.1:9", tmp_path)
    assert found["error"] == "WeightsUnavailable"
    assert found["seconds"] < 15


def test_a_name_that_does_not_resolve(right, tmp_path):
    found = load("http://no-such-host.invalid", tmp_path)
    assert found["error"] == "WeightsUnavailable"
    assert found["seconds"] < 15


def test_another_commits_weights_are_refused(hub, tmp_path):
    """HEAD and GET of different commits: valid weights of the same size, but not the published ones."""
    hub.faults.append(on("GET", "cdn", body(lambda content: content[:-64] + bytes(64))))
    assert load(hub.url, tmp_path)["error"] == "WeightsIntegrity"


def test_a_private_repository_needs_the_token_and_no_message_shows_it(hub, right, tmp_path):
    hub.repos[ROW.hub_repo].token = "hf_right"
    refused = load(hub.url, tmp_path, HF_TOKEN="hf_wrong_secret")
    assert refused["error"] == "WeightsUnavailable"
    assert "hf_wrong_secret" not in refused["message"] + refused["stderr"]
    assert load(hub.url, tmp_path, HF_TOKEN="hf_right")["state"] == right


def test_the_token_stays_with_the_hub(hub, right, tmp_path):
    """The file itself comes from another host, after a redirect; that host has no business with the token."""
    seen = []
    hub.repos[ROW.hub_repo].token = "hf_right"
    hub.faults.append(lambda request: seen.append((request.path, request.headers.get("Authorization"))))
    assert load(hub.url, tmp_path, HF_TOKEN="hf_right")["state"] == right
    assert any(token == "Bearer hf_right" for path, token in seen if "resolve" in path)
    assert [token for path, token in seen if path.startswith("/cdn/") and token] == []
    assert any(path.startswith("/cdn/") for path, _ in seen)


def cached_file(home):
    return next((home / "hub").rglob(f"snapshots/*/{HUB_FILENAME}"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "dangling"])
def test_a_damaged_cache_is_healed(hub, right, tmp_path, damage):
    assert load(hub.url, tmp_path)["state"] == right
    blob = cached_file(tmp_path).resolve()
    content = blob.read_bytes()
    if damage == "dangling":
        blob.unlink()
    else:
        blob.write_bytes(half(content) if damage == "truncated" else flipped(content))
    assert load(hub.url, tmp_path)["state"] == right


def test_a_warm_cache_needs_no_network(hub, right, tmp_path):
    assert load(hub.url, tmp_path)["state"] == right
    asked = len(hub.about(ROW.name))
    assert load(hub.url, tmp_path)["state"] == right
    assert load(hub.url, tmp_path, HF_HUB_OFFLINE="1")["state"] == right
    assert len(hub.about(ROW.name)) == asked


# What the process may not do, before it loads.
FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""
# Root may write anywhere: without these two capabilities it may not.
OBEYS_PERMISSIONS = """
import ctypes
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
libc, header, sets = ctypes.CDLL(None), Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(ctypes.byref(header), sets) == 0
sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
assert libc.capset(ctypes.byref(header), sets) == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and capabilities are Linux's")
@pytest.mark.parametrize(("limit", "reason"), [(FULL_DISK, "Error"), (OBEYS_PERMISSIONS, "PermissionError")])
def test_a_cache_that_cannot_be_written_says_so_and_leaves_no_half_file(hub, right, tmp_path, limit, reason):
    home = tmp_path / "home"
    home.mkdir()
    if limit is OBEYS_PERMISSIONS:
        home.chmod(0o555)
    found = load(hub.url, home, before=limit)
    assert found["error"] == "WeightsUnavailable", found
    assert reason in found["message"]
    assert (
        "free some space, or give another folder (cache_dir=, or the environment variable HF_HOME)" in found["message"]
    )
    home.chmod(0o755)
    assert load(hub.url, home)["state"] == right


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_warm_cache_may_be_read_only(hub, right, tmp_path):
    assert load(hub.url, tmp_path)["state"] == right
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert load(hub.url, tmp_path, before=OBEYS_PERMISSIONS)["state"] == right
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_only_local_files_means_no_request(hub, right, tmp_path):
    options = "local_files_only=True"
    refused = load(hub.url, tmp_path, options=options)
    assert refused["error"] == "WeightsUnavailable"
    assert hub.about(ROW.name) == []
    assert load(hub.url, tmp_path)["state"] == right
    asked = len(hub.about(ROW.name))
    assert load(hub.url, tmp_path, options=options)["state"] == right
    assert len(hub.about(ROW.name)) == asked


def test_many_threads_load_from_a_cold_cache_at_once(hub, right, tmp_path):
    program = f"""
import hashlib, budgetnets
from concurrent.futures import ThreadPoolExecutor
def state(_):
    model = budgetnets.create({ROW.name!r}, pretrained=True)
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values())).hexdigest()
with ThreadPoolExecutor(32) as pool:
    print(*pool.map(state, range(32)))
"""
    own = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "BUDGETNETS_WEIGHTS": "hub"}
    environment = os.environ | own | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == [right] * 32, done.stderr


def test_a_kill_in_the_middle_of_a_download_costs_nothing_but_time(hub, right, tmp_path):
    hub.faults.append(on("GET", "cdn", stalled, times=1))
    own = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "BUDGETNETS_WEIGHTS": "hub"}
    program = LOAD.format(module="budgetnets", name=ROW.name, before="", options="")
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | own, stdout=subprocess.DEVNULL)
    while not hub.count("GET", "cdn"):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    process.kill()
    process.wait()
    assert load(hub.url, tmp_path)["state"] == right


def test_many_processes_load_from_a_cold_cache_at_once(hub, right, tmp_path):
    own = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "BUDGETNETS_WEIGHTS": "hub"}
    command = [sys.executable, "-c", LOAD.format(module="budgetnets", name=ROW.name, before="", options="")]
    environment = os.environ | own | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    states = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1])["state"] for process in processes]
    assert states == [right] * 8
