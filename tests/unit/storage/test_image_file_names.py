from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from deployments.storage.base import check_key
from deployments.storage.image_names import image_id, image_key

JOB = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def test_ids_are_the_same_every_time_and_never_twice() -> None:
    ids = [image_id(JOB, index) for index in range(8)]

    assert ids == [image_id(JOB.upper(), index) for index in range(8)]
    assert len(set(ids)) == 8
    assert {UUID(text).version for text in ids} == {5}
    assert image_id(JOB, 0) == "f5ca55d4-f439-50d8-a59e-07ac8187c6dc"


def test_job_id_must_be_a_uuid() -> None:
    with pytest.raises(ValueError, match="UUID"):
        image_id("../x", 0)


@pytest.mark.parametrize("created", [date(2031, 2, 3), datetime(2031, 2, 3, 23, 59, tzinfo=UTC)])
def test_keys_are_those_that_storage_takes(created: date) -> None:
    key = image_key(image_id(JOB, 0), created, "png")

    assert key.startswith("2031/02/03/")
    assert check_key(key) == key
