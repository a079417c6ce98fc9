"""Networks by "hf-hub:" names: the revision that is asked for, what is cached, and what is said if neither is there."""

import json

import pytest
import torch
from hub_server import Hub, Repo
from test_publish import client

import budgetnets
from budgetnets import build_resnet, save_pretrained

# Prints, for each call, the classifier's first bias, which tells the versions apart, or the error.
PROGRAM = """
import json, budgetnets, torch
for arguments in json.loads({calls!r}):
    try:
        found = budgetnets.create(**arguments)
        print(json.dumps(found.head.bias[0].item() if arguments.get("pretrained") else found.num_classes))
    except Exception as error:
        print(json.dumps(type(error).__name__ + ": " + str(error)))
"""


def version(value, folder):
    """The Hub files of a network whose first bias is `value`."""
    model = build_resnet(1, 1, 8, num_classes=2)
    torch.nn.init.constant_(model.head.bias, value)
    return {path.name: path.read_bytes() for path in save_pretrained(model, folder).iterdir()}


@pytest.fixture
def hub(tmp_path):
    with Hub() as hub:
        repo = hub.repos["me/net"] = Repo()
        repo.refs["v1"] = repo.commit(version(1.0, tmp_path / "v1"))
        repo.commit(version(2.0, tmp_path / "v2"))
        yield hub


def ask(hub, tmp_path, *calls, **environment):
    done = client(PROGRAM.format(calls=json.dumps(calls)), hub, tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def call(name="hf-hub:me/net", **options):
    return {"name": name, "pretrained": True} | options


def test_a_revision_is_the_one_asked_for(hub, tmp_path):
    calls = [call(), call("hf-hub:me/net@v1"), call(revision="v1"), call("hf_hub:me/net", revision="main")]
    assert ask(hub, tmp_path, *calls) == [2.0, 1.0, 1.0, 2.0]


@pytest.mark.slow
def test_what_is_cached_needs_no_hub(hub, tmp_path):
    local, untrained = call(local_files_only=True), {"name": "hf-hub:me/net"}
    (refused,) = ask(hub, tmp_path, local)
    assert refused.startswith("WeightsUnavailable: hf-hub:me/net: config.json at revision main could not be had")
    assert hub.about("me/net") == []
    assert ask(hub, tmp_path, untrained, call()) == [2, 2.0]
    asked = len(hub.about("me/net"))
    assert ask(hub, tmp_path, local) == [2.0]
    assert ask(hub, tmp_path, call(), HF_HUB_OFFLINE="1") == [2.0]
    assert len(hub.about("me/net")) == asked
    assert ask(hub, tmp_path, call(), HF_ENDPOINT="http://127.0.0.1:9") == [2.0]


def test_config_and_weights_are_of_one_commit_though_the_branch_moves(hub, tmp_path):
    def push_after_the_config(request):
        if "model.safetensors" in request.path:
            hub.faults.clear()
            model = build_resnet(1, 1, 16, num_classes=2)
            files = save_pretrained(model, tmp_path / "wider").iterdir()
            hub.repos["me/net"].commit({path.name: path.read_bytes() for path in files})
        return False

    hub.faults.append(push_after_the_config)
    assert ask(hub, tmp_path, call()) == [2.0]


@pytest.mark.slow
def test_a_private_network_needs_the_token_and_no_message_shows_it(hub, tmp_path):
    hub.repos["me/net"].token = "hf_right"
    assert ask(hub, tmp_path, call(), HF_TOKEN="hf_right") == [2.0]
    (refused,) = ask(hub, tmp_path / "another", call(), HF_TOKEN="hf_wrong_secret")
    assert "hf auth login, or HF_TOKEN" in refused
    assert "hf_wrong_secret" not in refused


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (call("hf-hub:me/nothing"), ["hf-hub:me/nothing: config.json at revision main", "the spelling of the name"]),
        (call(revision="v9"), ["hf-hub:me/net: config.json at revision v9", "RevisionNotFound"]),
    ],
)
def test_what_is_not_there_is_named(hub, tmp_path, arguments, parts):
    (refused,) = ask(hub, tmp_path, arguments)
    assert refused.startswith("WeightsUnavailable")
    assert all(part in refused for part in parts), refused


def test_a_hub_that_is_down_is_given_up_soon(hub, tmp_path):
    hub.faults.append(lambda request: request.error(503, None) or True)
    (refused,) = ask(hub, tmp_path, call())
    assert refused.startswith("WeightsUnavailable")
    assert "503" in refused
    assert hub.count("HEAD") <= 3


@pytest.mark.parametrize("name", ["resnet9_cifar", "hf-hub:me/net@v1", "local-dir:folder"])
def test_a_revision_where_none_belongs_is_refused(name):
    with pytest.raises(TypeError, match="revision='v1' is for 'hf-hub:org/name' without an @"):
        budgetnets.create(name, pretrained=True, revision="v1")
