"""Pin the state-dict keys of new variants in tests/state_dict_keys.json; an existing one's entry never changes."""

import hashlib
import json
from pathlib import Path

import timm
import torch

import budgetnets

path = Path(__file__).parent / "state_dict_keys.json"
pinned = json.loads(path.read_text()) if path.exists() else {}
for name in budgetnets.list_models():
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    lines = "\n".join(f"{key} {list(tensor.shape)}" for key, tensor in state.items())
    pinned.setdefault(name, hashlib.sha256(lines.encode()).hexdigest())
path.write_text(json.dumps(pinned, indent=1) + "\n")
