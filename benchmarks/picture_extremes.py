"""Measures what pictures at the limits of an upload cost, honest ones and hostile ones.

    python -m benchmarks.picture_extremes [WORD ...]

Each is decoded in a process of its own, as ``deployments/decoding`` does it but without its limits, which follow from
what the honest ones need: CPU seconds and peak memory of a picture that is made clean, or of a thumbnail of an AVIF
file, and of reading the metadata. What takes more than a minute is ended.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.cost import measured
from benchmarks.extreme_pictures import HONEST, HOSTILE, PIXELS, Maker
from tests.support.picture_corpus.decoders import PROMISED, decoders

MOST_SECONDS = 60


def main() -> None:
    """Measure those whose kind and name hold one of the words, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    warnings.simplefilter("ignore")
    print("| picture | file, kB | decoder | CPU s | MB | outcome |\n" + "|" + " --- |" * 6, flush=True)
    for kind, makers in (("honest", HONEST), ("hostile", HOSTILE)):
        for name, make in makers.items():
            if not words or any(word in f"{kind}: {name}" for word in words):
                _measure(f"{kind}: {name}", make)


def _measure(name: str, make: Maker) -> None:
    """Make the file in one process and decode it in others, so that what one of them held is in no other's figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        _in_child(name, lambda: path.write_bytes(make()))
        for decoder in ("thumbnail" if "AVIF" in name else "upload", "metadata"):
            _in_child(f"{name}, {decoder}", lambda decoder=decoder: _decode(name, decoder, path.read_bytes()))


def _in_child(name: str, work: Callable[[], object]) -> None:
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        if status:
            print(f"| {name} | | | | | ended with {os.waitstatus_to_exitcode(status)} |", flush=True)
        return
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _decode(name: str, decoder: str, content: bytes) -> None:
    outcome = "decoded"
    with measured() as cost:
        try:
            decoders(max(PIXELS, 2**28 if decoder == "thumbnail" else 0))[decoder](content)
        except PROMISED as error:
            outcome = f"{type(error).__name__}: {error}"
    print(
        f"| {name} | {len(content) // 1024} | {decoder} | {cost.seconds:.2f} | {cost.megabytes:.0f} | {outcome} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
