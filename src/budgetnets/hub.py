"""The Hugging Face Hub, asked with patience for what passes and none for what does not."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .checks import first_line
from .state import WeightsUnavailable

CONFIG_FILENAME = "config.json"
HUB_FILENAME = "model.safetensors"
HUB_TIMEOUT = 3.0  # seconds for the Hub's first answer
HUB_RETRIES = 2
RETRIED_STATUS = (429, 502, 503, 504)
DISK_ERRORS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fetch(
    repo: str,
    filename: str,
    revision: str | None,
    *,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force: bool = False,
) -> Path:
    """Return where the Hub's client keeps a file of a repository, downloaded if it must be.

    Args:
        repo: "org/name".
        filename: of the file in it.
        revision: branch, tag or commit; None is main.
        cache_dir: the client's cache; None for its usual place.
        local_files_only: take the file from the cache, without asking the Hub.
        force: download it even if it is cached.

    Raises:
        Exception: the client's own errors, and those of its HTTP library.
    """
    import huggingface_hub as hub  # heavy, and rarely needed

    def download() -> str:
        if not (local_files_only or offline()):
            # The client retries its own first request for half a minute; this one finds out fast if the Hub answers.
            hub.get_hf_file_metadata(hub.hf_hub_url(repo, filename, revision=revision), timeout=HUB_TIMEOUT)
        return hub.hf_hub_download(
            repo,
            filename,
            revision=revision,
            cache_dir=cache_dir,
            etag_timeout=HUB_TIMEOUT,
            force_download=force,
            local_files_only=local_files_only,
            library_name="budgetnets",
        )

    try:
        return Path(_with_retries(download))
    except Exception as error:
        # Where nothing answers, what was downloaded before will do, as the client itself has it.
        known = cached(repo, filename, revision, cache_dir)
        if force or known is None or getattr(error, "response", None) is not None:
            raise
        return known


def offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the client to ask the Hub."""
    import huggingface_hub as hub

    return hub.constants.HF_HUB_OFFLINE


def cached(repo: str, filename: str, revision: str | None, cache_dir: str | Path | None = None) -> Path | None:
    """Return where a file lies in the client's cache, or None; the Hub is not asked."""
    import huggingface_hub as hub

    path = hub.try_to_load_from_cache(repo, filename, cache_dir=cache_dir, revision=revision)
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def fetch_folder(
    repo: str,
    revision: str | None,
    *,
    weights: bool,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return a folder with a repository's config.json and, if asked for, its weights, both of one commit.

    Raises:
        WeightsUnavailable: one of them could not be had.
    """
    get = partial(fetch, repo, cache_dir=cache_dir, local_files_only=local_files_only)
    config = _or_explain(partial(get, CONFIG_FILENAME, revision), f"hf-hub:{repo}", CONFIG_FILENAME, revision)
    if weights:
        # By the commit that the first answer came from: a branch may move in between.
        commit = config.parent.name
        _or_explain(partial(get, HUB_FILENAME, commit), f"hf-hub:{repo}", HUB_FILENAME, revision)
    return config.parent


def explain(error: Exception) -> str:
    """Return what went wrong and what to do, for a message that has named the file."""
    reason = f"could not be had ({type(error).__name__}: {first_line(error)})"
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return (
            f"{reason}. The cache cannot be written: free some space, or give another folder (cache_dir=, or the "
            "environment variable HF_HOME)"
        )
    return f"{reason}. Check the network and the Hub's state (HF_HUB_OFFLINE=1 uses the cache alone)"


def _or_explain(get: Callable[[], Path], name: str, filename: str, revision: str | None) -> Path:
    try:
        return get()
    except Exception as error:
        raise WeightsUnavailable(
            f"{name}: {filename} at revision {revision or 'main'} {explain(error)}, the spelling of the name, and for "
            "a private repository the token (hf auth login, or HF_TOKEN)."
        ) from error


def _with_retries(download: Callable[[], str]) -> str:
    for attempt in range(HUB_RETRIES + 1):
        try:
            return download()
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status not in RETRIED_STATUS or attempt == HUB_RETRIES:
                raise
            time.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")
