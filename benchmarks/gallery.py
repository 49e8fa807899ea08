"""How long a page of the gallery and a search take with many images in the records, on both kinds of databases.

Prompts are made of words of which few are frequent and many are rare. Medians, in milliseconds; and the plans by which
the databases find the images.

    python -m benchmarks.gallery
    python -m benchmarks.gallery --images 10000 --rounds 20 --no-plans
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.databases import new_database, sqlite_file
from deployments.jobs.database.database import Database
from deployments.jobs.database.search import indexed_words
from deployments.jobs.database.tables import images, jobs
from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.images.holdings import note_images
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from deployments.parameters import GenerationSettings
from tests.support.postgresql import PostgresqlServer, find_programs

IMAGES_PER_JOB = 2
CLIENTS = 20
MODELS = ("sdxl-base", "flux-schnell", "shapes")
COMMON = (
    "red", "blue", "green", "circle", "square", "portrait", "landscape", "light", "dark", "city", "forest", "sea",
    "night", "sun", "detailed", "photo",
)  # fmt: skip
LIMIT = 20
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
ASKED = {
    "page 1": ({}, {}),
    "page 50 by number": ({}, {"page": 50}),
    "page 1 of a model": ({"model_id": "shapes"}, {}),
    "page 1 of an owner": ({"client": "client 3"}, {}),
    "page 1 of a tag": ({"tags": ("best",)}, {}),
    "page 1 of favourites": ({"favourite": True}, {}),
    "page 1 of a size": ({"size": (1024, 768)}, {}),
    "page 1 before a time": ({"created_before": BEGINNING + timedelta(minutes=5)}, {}),
    "search, two frequent words": ({"search": "red circle"}, {}),
    "search, a frequent and a rare word": ({"search": "circle word512"}, {}),
    "search, two rare words": ({"search": "word900 word901"}, {}),
    "search, a frequent word and a beginning": ({"search": "red word1"}, {}),
    "search, two frequent words of an owner": ({"search": "red circle", "client": "client 3"}, {}),
    "search, no match": ({"search": "red nothing"}, {}),
}


def prompts(count: int) -> Iterator[str]:
    """Prompts of twelve words: half of them of sixteen frequent ones, half of a thousand."""
    choice = random.Random(0)
    for _ in range(count):
        rare = [f"word{choice.randrange(1000)}" for _ in range(6)]
        yield " ".join(choice.sample(COMMON, 6) + rare)


async def fill(url: str, count: int) -> None:
    """Put so many images of completed jobs into a database with the newest schema."""
    shared = GenerationSettings(
        num_images=IMAGES_PER_JOB, num_inference_steps=20, guidance_scale=7.5, width=1024, height=1024, seed=1
    ).model_dump(mode="json")
    made, shown = [], []
    for number, prompt in enumerate(prompts(count // IMAGES_PER_JOB)):
        model_id, client = MODELS[number % len(MODELS)], f"client {number % CLIENTS}"
        at = BEGINNING + timedelta(seconds=number)
        made.append(
            {
                "id": f"job {number}", "model_id": model_id, "client": client, "prompt": prompt, "negative_prompt": "",
                "settings": shared, "search_text": f"{prompt}\n{model_id}", "state": JobState.COMPLETED,
                "total_steps": 40, "created_at": at, "started_at": at, "completed_at": at,
            }
        )  # fmt: skip
        for index in range(IMAGES_PER_JOB):
            shown.append(
                {
                    "id": f"image {number}-{index}", "job_id": f"job {number}", "index": index,
                    "key": f"2030/01/01/{number}-{index}.png", "media_type": "image/png", "byte_count": 1_500_000,
                    "sha256": "0" * 64, "created_at": at, "model_id": model_id, "client": client, "width": 1024,
                    "height": 768 if number % 100 == 0 else 1024, "favourite": number % 50 == 0,
                    "words": indexed_words(prompt, model_id),
                    "metadata": {"model_id": model_id, "prompt": prompt, "settings": shared, "image_number": index + 1},
                }
            )  # fmt: skip

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(jobs), made)
        await connection.execute(insert(images), shown)
        await connection.execute(
            text("INSERT INTO image_tags (tag, number) SELECT 'best', number FROM images WHERE favourite")
        )
        await note_images(connection, [(row["client"], row["model_id"], row["byte_count"]) for row in shown], 1)

    async def analyze(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":  # its autovacuum does so within a minute
            await connection.execute(text("ANALYZE"))

    database = Database(url)
    await database.write(work)
    await database.write(analyze)
    await database.close()


async def measure(url: str, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Return the times of each call, in milliseconds, and the plans of its statements."""
    store = await JobStore.open(url)
    engine = store._database._backend.readers.sync_engine
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    times: dict[str, list[float]] = {}
    plans: dict[str, list[str]] = {}
    for name, (wanted, more) in ASKED.items():
        times[name] = []
        for _ in range(rounds + 2):
            start = time.perf_counter()
            await store.gallery.page(GalleryFilter(**wanted), limit=LIMIT, **more)
            times[name].append((time.perf_counter() - start) * 1000)
        times[name] = times[name][2:]
        event.listen(engine, "before_cursor_execute", note)
        await store.gallery.page(GalleryFilter(**wanted), limit=LIMIT, **more)
        event.remove(engine, "before_cursor_execute", note)
        plans[name] = await explain(store, [each for each in statements if each[0].lstrip().startswith("SELECT")])
        statements.clear()
    await store.close()
    return times, plans


async def explain(store: JobStore, statements: list[tuple[str, Any]]) -> list[str]:
    """Return the plan of each statement."""

    async def work(connection: AsyncConnection) -> list[str]:
        is_sqlite = connection.dialect.name == "sqlite"
        how = "EXPLAIN QUERY PLAN" if is_sqlite else "EXPLAIN (COSTS OFF)"
        told = []
        for statement, parameters in statements:
            rows = (await connection.exec_driver_sql(f"{how} {statement}", tuple(parameters))).all()
            told.append("\n".join(str(row[3] if is_sqlite else row[0]) for row in rows))
        return told

    return await store._database.read(work)


async def prepared(url: str, count: int) -> None:
    """Create the schema, and fill it."""
    await (await JobStore.open(url)).close()
    await fill(url, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="images in the records")
    parser.add_argument("--rounds", type=int, default=50, help="calls of each kind")
    parser.add_argument("--plans", action=argparse.BooleanOptionalAction, default=True, help="print the query plans")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        urls = {"sqlite": stack.enter_context(sqlite_file())}
        programs = find_programs()
        if programs is None:
            print("PostgreSQL is not installed, and is not measured.")
        else:
            server = PostgresqlServer(programs)
            stack.callback(server.remove)
            server.start()
            stack.callback(server.stop)
            urls["postgresql"] = stack.enter_context(new_database(server))
        print(f"{arguments.images} images, {arguments.rounds} calls of each kind; medians and minima in ms")
        for kind, url in urls.items():
            asyncio.run(prepared(url, arguments.images))
            times, plans = asyncio.run(measure(url, arguments.rounds))
            for name, taken in times.items():
                print(f"{kind:<11} {name:<42} {statistics.median(taken):>7.1f} {min(taken):>7.1f}", flush=True)
            for name, told in plans.items() if arguments.plans else ():
                print(f"\n{kind}, {name}:\n" + "\n--\n".join(told), flush=True)


if __name__ == "__main__":
    main()
