from dataclasses import replace
from pathlib import Path

import pytest

from deployments.catalog.catalog import load_catalog
from models.training.adherence import CATALOG, LIMITS, Adherence, Settings, Tally, read_settings, table
from models.training.judge import Verdict
from models.training.language import Scene, held_out_captions

SETTINGS = Settings(steps=20, guidance=1.5, width=64, height=64, batch=25)


def verdict_on(scene: Scene) -> Verdict:
    return Verdict(scene.shape, scene.colour, scene.background, scene.place)


def adherence_with_wrong(attribute: str, wrong: int) -> Adherence:
    adherence = Adherence()
    for index, (scene, _) in enumerate(held_out_captions()):
        verdict = verdict_on(scene)
        adherence.add(scene, replace(verdict, **{attribute: None}) if index < wrong else verdict)
    return adherence


def test_settings_are_the_catalogs() -> None:
    entry = load_catalog(CATALOG, {}).get("shapes")

    assert read_settings(entry, None, None, 25) == SETTINGS
    assert read_settings(entry, 5, 0.0, 1) == replace(SETTINGS, steps=5, guidance=0.0, batch=1)
    assert Path(entry.location()).name == "shapes"


def test_no_pictures_are_no_success() -> None:
    assert Tally().share == 0
    assert Adherence().missed() == list(LIMITS)


@pytest.mark.parametrize("attribute", LIMITS)
def test_one_wrong_too_many_misses_the_limit(attribute: str) -> None:
    allowed = round(500 * (1 - LIMITS[attribute]))

    assert adherence_with_wrong(attribute, allowed).missed() == []
    assert adherence_with_wrong(attribute, allowed + 1).missed() == [attribute]


def test_shapes_are_counted_by_size_and_shape() -> None:
    adherence = Adherence()
    star = Scene("star", "red", "blue", "small", "left")
    adherence.add(star, replace(verdict_on(star), shape="circle"))
    adherence.add(replace(star, size="large"), verdict_on(star))

    assert adherence.shape_by_shape["star"] == Tally(right=1, asked=2)
    assert adherence.shape_by_size["small"] == Tally(right=0, asked=1)
    assert adherence.shape_by_size["large"] == Tally(right=1, asked=1)
    assert adherence.everything == Tally(right=1, asked=2)


def test_table_shows_what_is_below_its_limit() -> None:
    lines = table(adherence_with_wrong("colour", 100), {"red": (0.15, 0.0)}, 0.5, SETTINGS).splitlines()

    assert lines[0] == "500 held-out captions, 20 steps, guidance 1.5"
    assert "colour         80.0%       97%  below" in lines
    assert "background    100.0%       98%" in lines
    assert "red              15.0%             0.0%" in lines
    assert "one image: 0.50 s" in lines[-1]
