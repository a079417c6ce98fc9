"""Progress bars on standard error, for what may take a while."""

from __future__ import annotations

import sys
from typing import Any


def bar(*args: Any, disable: bool = False, **options: Any) -> Any:
    """Return tqdm's bar, which goes when it is done; where a process has no standard error (2>&-), none is shown."""
    from tqdm import tqdm  # not at import

    return tqdm(*args, disable=disable or sys.stderr is None, leave=False, **options)
