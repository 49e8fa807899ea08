"""Files with far more parts than usual are found out before a decoder goes through them."""

from __future__ import annotations

import io

import PIL.Image
import pytest

from deployments.storage.structure import excess_of
from tests.support.hostile_files import JPEG, PNG, REFUSED, TAKEN, WEBP, file_of, repeated_scans

FAR_TOO_MANY = {
    name: content
    for name, (_, content) in REFUSED.items()
    if "of many" in name or "than many" in name or "thousand" in name
}


@pytest.mark.parametrize("name", FAR_TOO_MANY)
def test_what_there_is_too_much_of_is_named(name):
    excess = excess_of(FAR_TOO_MANY[name])

    assert excess is not None
    assert excess.startswith("a JPEG file of more than" if "JPEG" in name else "a PNG file of more than")


def test_without_this_check_a_decoder_would_go_through_them():
    for name, content in FAR_TOO_MANY.items():
        if "nothing else" not in name:
            PIL.Image.open(io.BytesIO(content))


@pytest.mark.parametrize("name", TAKEN)
def test_usual_files_have_no_excess(name):
    assert excess_of(TAKEN[name]) is None


def test_a_hundred_scans_are_taken_and_one_more_is_not():
    usual = PIL.Image.new("RGB", (64, 48), "gray")
    scans = file_of(usual, "JPEG", progressive=True, quality=50).count(b"\xff\xda")

    assert excess_of(repeated_scans(64, 48, 100 - scans)) is None
    assert excess_of(repeated_scans(64, 48, 101 - scans)) == "a JPEG file of more than 100 scans"


@pytest.mark.parametrize("content", [JPEG, PNG, WEBP])
def test_a_file_that_breaks_off_anywhere_has_none(content):
    assert {excess_of(content[:length]) for length in range(len(content))} == {None}
