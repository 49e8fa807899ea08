"""Whatever file is sent as a picture, by whichever route: a clean picture is kept, or the answer is a 4xx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.api_service import ApiService, api_service
from tests.support.dialects import opened
from tests.support.hostile_files import MOST_BYTES, MOST_PIXELS, REFUSED, SCRIPT, SIDEWAYS, TAKEN, UPRIGHT, damaged
from tests.support.picture_corpus import case
from tests.support.picture_corpus.containers import png_chunks
from tests.support.picture_ways import CATALOG, PICTURES, WAYS, Way, as_input, drawing, kept_files


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[ApiService]:
    limits = {"max_upload_bytes": MOST_BYTES, "max_upload_pixels": MOST_PIXELS}
    async with api_service(tmp_path, CATALOG, **limits) as service, drawing(service):
        yield service


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
async def test_what_is_no_good_picture_is_refused_and_not_kept(service: ApiService, way: Way) -> None:
    answers = {name: await way(service, content) for name, (_, content) in REFUSED.items()}

    bad = 422 if "base64" in way.__name__ or "url" in way.__name__ else 400
    assert {name: answer.status_code for name, answer in answers.items()} == {
        name: bad if status == 400 else status for name, (status, _) in REFUSED.items()
    }
    assert len(kept_files(service)) == ("mask" in way.__name__)  # the picture to which the mask belongs
    assert (await service.tracker.counts.by_state()).total == 0


@pytest.mark.parametrize("way", PICTURES)
async def test_of_what_is_more_than_a_picture_the_picture_is_kept(service: ApiService, way: Way) -> None:
    answers = {name: (await way(service, content)).status_code for name, content in TAKEN.items()}

    assert answers == dict.fromkeys(TAKEN, 200)
    for path in kept_files(service):
        assert SCRIPT not in path.read_bytes()


@pytest.mark.parametrize("way", PICTURES)
async def test_a_picture_that_lies_on_its_side_is_turned(service: ApiService, way: Way) -> None:
    response = await way(service, SIDEWAYS)

    assert response.status_code == 200, response.text
    sizes = [opened(path.read_bytes()) for path in kept_files(service)]
    (kept,) = [image for image in sizes if image.size == UPRIGHT.size]
    assert np.abs(np.asarray(kept).astype(int) - np.asarray(UPRIGHT)).mean() < 5


@pytest.mark.filterwarnings("ignore")
async def test_no_damage_is_an_error_of_the_server(service: ApiService) -> None:
    for number, content in enumerate(damaged(200, seed=7)):
        way = WAYS[number % len(WAYS)]
        response = await way(service, content)
        assert response.status_code in (200, 400, 413, 415, 422), f"{number}, {way.__name__}: {response.text}"


@pytest.mark.filterwarnings("ignore")
async def test_of_any_file_at_all_nothing_is_kept_but_a_clean_picture(service: ApiService) -> None:
    for number in range(400):
        made = case(number, seed=1)
        response = await as_input(service, made.content)
        assert response.status_code in (200, 400, 413, 415), f"case {number}, {made.name}: {response.text}"

    kept = [path.read_bytes() for path in kept_files(service)]
    assert len(kept) > 50
    for content in kept:
        assert {name for name, _ in png_chunks(content)} <= {b"IHDR", b"fdEC", b"IDAT", b"IEND"}  # fdEC is fpng's mark
        assert opened(content).mode in ("L", "RGB", "RGBA")


@pytest.mark.filterwarnings("ignore")
async def test_no_file_at_all_is_an_error_of_the_server(service: ApiService) -> None:
    for number in range(400):
        made, way = case(number, seed=2), WAYS[number % len(WAYS)]
        response = await way(service, made.content)
        assert response.status_code in (200, 400, 413, 415, 422), f"case {number}, {made.name}: {response.text}"
