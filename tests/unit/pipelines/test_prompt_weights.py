"""Weights in prompts mean what they mean in AUTOMATIC1111's web page."""

import pytest

from deployments.pipelines.prompt_weights import read_weights


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red circle", [("a red circle", 1.0)]),
        ("", [("", 1.0)]),
        ("a (red:1.3) circle", [("a ", 1.0), ("red", 1.3), (" circle", 1.0)]),
        ("a (red) circle", [("a ", 1.0), ("red", 1.1), (" circle", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("(a [b] c:2)", [("a ", 2.0), ("b", 2 / 1.1), (" c", 2.0)]),
        ("(red :0.5)", [("red ", 0.5)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(red:0)", [("red", 0.0)]),
        ("(red:-1)", [("red", 0.0)]),
        (r"a \(round\) circle", [("a (round) circle", 1.0)]),
        (r"a back\slash", [(r"a back\slash", 1.0)]),
        ("(never closed", [("never closed", 1.1)]),
        ("closed too much)", [("closed too much)", 1.0)]),
        ("a ratio of 16:9) or so", [("a ratio of 16:9) or so", 1.0)]),
        ("time: noon", [("time: noon", 1.0)]),
        ("(a: b)", [("a: b", 1.1)]),
        ("two\nlines", [("two\nlines", 1.0)]),
        ("c++ and a.and()", [("c++ and a.and", 1.0)]),
    ],
)
def test_prompts_are_taken_apart_at_their_weights(prompt, expected):
    found = [(fragment.text, pytest.approx(fragment.weight)) for fragment in read_weights(prompt)]
    assert found == expected
