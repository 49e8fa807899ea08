"""What the hub says of the repositories that a catalog names: who may read them, and how much is still to download."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import httpx
from huggingface_hub import HfApi, constants, get_token, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry

_SECONDS = 5.0
_AT_ONCE = 8
_SHARD = re.compile(r"-\d+-of-\d+")
_WEIGHTS = ".safetensors"
_REFUSED = (401, 403)


class Access(StrEnum):
    """Whether a repository may be read with the token that there is."""

    GRANTED = "granted"
    NOT_ASKED = "not asked"
    GATED = "gated"
    """Its licence has not been accepted by the token's owner, or there is no token."""
    UNKNOWN = "unknown"
    """There is no such repository, or it is private."""
    NO_REVISION = "no revision"
    REFUSED = "refused"
    """The hub does not accept the token."""
    FAILED = "failed"


@dataclass(frozen=True)
class Repository:
    """A repository that a model of the catalog is loaded from.

    Attributes:
        model_id: Of the first model that wants it.
        repo: Its name on the hub.
        revision: Branch, tag or commit; None for the main branch.
        files: Pattern of the files in it that hold the weights which are loaded.
        variant: Variant of these files.
        token_name: The environment variable that the catalog names for the token; empty for none.
        has_token: Whether there is a token, there or where ``hf auth login`` keeps it.
        is_cached: Whether its files are on this machine, as far as that can be told without the hub.
        is_gated: Whether the hub asks for a licence to be accepted; False where it was not asked.
        access: What the hub says.
        total_bytes: Of the files that are loaded; None where the hub was not asked.
        missing_bytes: Of those that are not on this machine; None likewise.
    """

    model_id: str
    repo: str
    revision: str | None
    files: str
    variant: str | None
    token_name: str
    has_token: bool
    is_cached: bool
    is_gated: bool = False
    access: Access = Access.NOT_ASKED
    total_bytes: int | None = None
    missing_bytes: int | None = None

    @property
    def holds_pipeline(self) -> bool:
        """Whether it holds a pipeline, with a folder for each component, rather than a single network."""
        return self.files.startswith("*/")


@dataclass(frozen=True)
class Hub:
    """The hub.

    Attributes:
        endpoint: Its address.
        silence: Why it was not asked, in a sentence; empty if it was.
        repositories: Those that the catalog names.
    """

    endpoint: str
    silence: str
    repositories: tuple[Repository, ...]


def ask_hub(
    catalog: Catalog, environ: Mapping[str, str], endpoint: str | None = None, cache: Path | None = None
) -> Hub:
    """Ask the hub about all repositories of a catalog, several at once; nothing is downloaded.

    Args:
        catalog: The models.
        environ: The environment, for tokens.
        endpoint: The hub's address; None for the one of ``HF_ENDPOINT``.
        cache: Folder of the downloaded models; None for the hub's own.
    """
    address = endpoint or constants.ENDPOINT
    folder = cache or Path(constants.HF_HUB_CACHE)
    wanted = list(_wanted(catalog, environ, folder))
    silence = _why_silent(address) if wanted else "No model of the catalog comes from it."
    if silence:
        return Hub(address, silence, tuple(repository for repository, _ in wanted))
    client = HfApi(endpoint=address)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        asked = threads.map(lambda each: _ask(client, each[0], each[1], folder), wanted)
        return Hub(address, "", tuple(asked))


def _wanted(catalog: Catalog, environ: Mapping[str, str], cache: Path) -> Iterator[tuple[Repository, str | None]]:
    """Each repository once, with the token for it."""
    seen = set()
    for model_id, entry in catalog.models.items():
        token = entry.token(environ) or get_token()
        for repo, revision, files in _repositories(entry):
            if (repo, revision, files) not in seen:
                seen.add((repo, revision, files))
                yield (
                    Repository(
                        model_id=model_id,
                        repo=repo,
                        revision=revision,
                        files=files,
                        variant=entry.variant,
                        token_name=entry.token_env or "",
                        has_token=token is not None,
                        is_cached=_has_snapshot(repo, revision, cache),
                    ),
                    token,
                )


def _repositories(entry: ModelEntry) -> Iterator[tuple[str, str | None, str]]:
    """Name, revision and pattern of the weights' files."""
    if not entry.is_local:
        yield entry.repo, entry.revision, f"*/*{_WEIGHTS}"
    if entry.controlnet is not None and not entry.controlnet.is_local:
        yield entry.controlnet.repo, entry.controlnet.revision, f"*{_WEIGHTS}"
    for lora in (*entry.loading.loras, *entry.request_loras.values()):
        if not lora.is_local:
            yield lora.repo, lora.revision, lora.weight_name or f"*{_WEIGHTS}"


def _has_snapshot(repo: str, revision: str | None, cache: Path) -> bool:
    """Whether a snapshot of that revision is in the cache; it may lack files."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    reference = folder / "refs" / (revision or constants.DEFAULT_REVISION)
    commit = reference.read_text().strip() if reference.is_file() else revision or ""
    return bool(commit) and (folder / "snapshots" / commit).is_dir()


def _why_silent(endpoint: str) -> str:
    """Why the hub cannot be asked; empty if it answers."""
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set."
    try:
        httpx.head(endpoint, timeout=_SECONDS)
    except httpx.HTTPError as error:
        return f"{endpoint} cannot be reached: {str(error).strip() or type(error).__name__}."
    return ""


def _ask(client: HfApi, repository: Repository, token: str | None, cache: Path) -> Repository:
    try:
        found = client.model_info(
            repository.repo, revision=repository.revision, files_metadata=True, timeout=_SECONDS, token=token or False
        )
        sizes = {each.rfilename: each.size or 0 for each in found.siblings or ()}
        files = _loaded_files(sizes, repository)
        missing = [name for name in files if not _is_cached(repository.repo, name, found.sha, cache)]
        known = replace(
            repository,
            is_gated=bool(found.gated),
            is_cached=bool(files) and not missing,
            total_bytes=sum(sizes[name] for name in files),
            missing_bytes=sum(sizes[name] for name in missing),
        )
    except Exception as error:
        return replace(repository, access=_access(error), is_gated=isinstance(error, GatedRepoError))
    try:
        client.auth_check(repository.repo, token=token or False)
    except Exception as error:
        return replace(known, access=_access(error), is_gated=known.is_gated or isinstance(error, GatedRepoError))
    return replace(known, access=Access.GRANTED)


def _access(error: Exception) -> Access:
    if isinstance(error, GatedRepoError):
        return Access.GATED
    if isinstance(error, RepositoryNotFoundError):
        return Access.UNKNOWN
    if isinstance(error, RevisionNotFoundError):
        return Access.NO_REVISION
    if isinstance(error, OfflineModeIsEnabled):
        return Access.NOT_ASKED
    if isinstance(error, HfHubHTTPError) and error.response.status_code in _REFUSED:
        return Access.REFUSED
    return Access.FAILED


def _loaded_files(names: Iterable[str], repository: Repository) -> list[str]:
    """The files of weights that are loaded: of each folder those of the variant, or where it has none, plain ones."""
    candidates = [
        name for name in names if fnmatch(name, repository.files) and ("/" in name) == ("/" in repository.files)
    ]
    by_folder: dict[str, dict[str | None, list[str]]] = {}
    for name in candidates:
        path = PurePosixPath(name)
        variant = PurePosixPath(_SHARD.sub("", path.stem)).suffix.removeprefix(".") or None
        by_folder.setdefault(str(path.parent), {}).setdefault(variant, []).append(name)
    chosen = (variants.get(repository.variant, variants.get(None, [])) for variants in by_folder.values())
    return [name for names in chosen for name in names]


def _is_cached(repo: str, name: str, commit: str | None, cache: Path) -> bool:
    return isinstance(try_to_load_from_cache(repo, name, cache_dir=cache, revision=commit), str)
