"""Where somebody who is new to the project would look for a behaviour by name, and whether all of it is there.

A guess is a word. It hits where all definitions of the behaviour are in one place that bears the word: a file, files of
one folder whose names begin with it, or a folder. The definitions are patterns of names, so what is renamed has to be
renamed here too: a pattern that nothing matches is a miss.

What only passes a behaviour on is left out, as its folder says what it is: routes and their bodies, and commands.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PASSES_ON = re.compile(r"serve/(api/|cli\b|\w+_commands\.py)|deployments/jobs/(database/)?migrations/")


@dataclass(frozen=True)
class Guess:
    """A behaviour, and where it is looked for.

    Attributes:
        behaviour: In words.
        words: Names of a file or folder; each would do.
        definitions: Patterns of classes and functions, of methods with their class: ``Class.method``.
    """

    behaviour: str
    words: tuple[str, ...]
    definitions: tuple[str, ...]


GUESSES = (
    Guess("which models there are", ("catalog",), ("Catalog", "ModelEntry", "Loading", "Pool", "load_catalog")),
    Guess(
        "weights become a pipeline",
        ("loading", "pipelines"),
        (
            "load_pipeline", "tune_pipeline", "place_pipeline", "add_loras", "add_controlnet", "quantization_arguments",
            "keep_autoencoder_precise",
        ),
    ),
    Guess("images denoised in step", ("engine", "batching"), ("Engine", "Policy", "Forwards", "Call", "ForwardCosts")),
    Guess("steps that are skipped", ("step_cache",), (r"StepCaches?", "CachedPass")),
    Guess("previews of running jobs", ("previews",), (r"\w*[Pp]reviews?", "LatentColours")),
    Guess("how many replicas there are", ("autoscaling",), ("GpuSharing", "autoscaling_fields")),
    Guess("claims and leases", ("claims", "leases"), ("Claims", "Lease", "claim_of")),
    Guess("webhooks", ("webhook",), ("Courier", "sign", "read_url", "WebhookRefusedError")),
    Guess("rate limits", ("rate_limits", "rate_windows"), (r"RateWindows?", r"\w+\.spend_(submit|read)")),
    Guess("API keys", ("api_keys", "keys"), ("ApiKey", "KeyLimits", "make_key", "hash_of")),
    Guess("what operators did", ("audit",), ("Audit", "AuditEntry", "AuditPage")),
    Guess("the words of the search", ("search",), ("Search", "words_of", "indexed_words")),
    Guess("thumbnails", ("thumbnails",), (r"(encode|make|write)_thumbnails?", "thumbnail_key")),
    Guess(
        "metadata in image files",
        ("metadata", "image_metadata"),
        (r"(\w+\.)?\w*metadata", "parameters_text", "exif_of", "xmp_of"),
    ),
    Guess("settings", ("settings",), (r"(?!Generation)\w*Settings",)),
    Guess("upkeep: sweeping, backup, retention", ("upkeep",), ("Sweep", "write_backup", "Retention", "clear_jobs")),
)  # fmt: skip


def look(tree: Path, files: Sequence[str]) -> dict[Guess, list[str]]:
    """Return for each guess the files that have the behaviour; none where it hits."""
    found = {
        file: _definitions(ast.parse((tree / file).read_text(encoding="utf-8")))
        for file in files
        if not PASSES_ON.match(file)
    }
    return {guess: _scattered(guess, found) for guess in GUESSES}


def _definitions(module: ast.Module) -> list[str]:
    names = []
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            names += [f"{node.name}.{method.name}" for method in methods]
    return names


def _scattered(guess: Guess, found: Mapping[str, Sequence[str]]) -> list[str]:
    places: set[str] = set()
    for pattern in guess.definitions:
        having = {file for file, names in found.items() if any(re.fullmatch(pattern, name) for name in names)}
        if not having:
            return [f"no {pattern}"]
        places |= having
    is_hit = any(_bears(word, places) for word in guess.words)
    return [] if is_hit else sorted(places)


def _bears(word: str, places: set[str]) -> bool:
    paths = [PurePosixPath(place) for place in places]
    shared = set.intersection(*(set(path.parents) for path in paths))
    beside = len({path.parent for path in paths}) == 1 and all(path.stem.startswith(word) for path in paths)
    return beside or any(folder.name == word for folder in shared)
