from pathlib import Path

import pytest

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError

MINIMAL = "models:\n  one: {repo: owner/one}\n"


def load(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_catalog(path, environ or {})


def problems(tmp_path: Path, text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    """The lines of the error, without the folder of the file."""
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, text, environ)
    assert caught.value.status == 500
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_smallest_catalog(tmp_path: Path) -> None:
    catalog = load(tmp_path, MINIMAL)

    assert catalog.default == "one"
    assert catalog.get("one").steps.default == 30


def test_typo_names_file_line_field_and_a_suggestion(tmp_path: Path) -> None:
    text = (
        "models:\n  shapes:\n    repo: shapes\n    source: builtin\n    steps:\n      minimum: 1\n      defualt: 20\n"
    )

    assert problems(tmp_path, text) == [
        'catalog.yaml:7: models.shapes.steps.defualt: unknown field; did you mean "default"?'
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MINIMAL + "defualt: one\n", 'catalog.yaml:3: defualt: unknown field; did you mean "default"?'),
        (MINIMAL + "colour: red\n", "catalog.yaml:3: colour: unknown field"),
        (MINIMAL + "default: on\n", "catalog.yaml:3: default: should be a valid string"),
        (MINIMAL + "default: oen\n", 'catalog.yaml:3: default: there is no model "oen"; did you mean "one"?'),
        (
            "models:\n  a:\n    repo: o/a\n    reop: x\n",
            'catalog.yaml:4: models.a.reop: unknown field; did you mean "repo"?',
        ),
        ("models:\n  a:\n    description: x\n", "catalog.yaml:2: models.a.repo: missing"),
        (
            "models:\n  a:\n    repo: o/a\n    repo: o/b\n",
            "catalog.yaml:4: models.a.repo: given twice; first on line 3",
        ),
        ("models:\n  a: {repo: o/a, repo: o/b}\n", "catalog.yaml:2: models.a.repo: given twice; first on line 2"),
        (
            "models:\n  a:\n    repo: o/a\n  a:\n    repo: o/b\n",
            "catalog.yaml:4: models.a: given twice; first on line 2",
        ),
        (
            "models:\n  a:\n    repo: o/a\n    steps:\n      maximum: 9\n      default: 10\n",
            "catalog.yaml:6: models.a.steps.default: 10 is not within 1..9",
        ),
        (
            "models:\n  a:\n    repo: o/a\n    steps:\n      fixed: 2\n      minimum: 1\n",
            "catalog.yaml:6: models.a.steps.minimum: does not go with fixed",
        ),
        (
            "models:\n  a:\n    repo: o/a\n    size: {default_width: 1000}\n",
            "catalog.yaml:4: models.a.size.default_width: 1000 is not a multiple of 16 (multiple_of)",
        ),
        (
            'models:\n  a:\n    repo: o/a\n    max_batch: "8"\n',
            "catalog.yaml:4: models.a.max_batch: should be a valid integer",
        ),
        (
            "models:\n  a:\n    repo: o/a\n    variant: !x y\n",
            "catalog.yaml:4: models.a.variant: cannot be read as a value",
        ),
        ("models:\n  a: &loop\n    repo: *loop\n", "catalog.yaml:3: models.a.repo: refers to itself"),
        ("models: {}\n", "catalog.yaml:1: models: at least one is needed"),
        ("models:\n", "catalog.yaml:1: models: at least one is needed"),
        ("default: a\n", "catalog.yaml:1: models: at least one is needed"),
        ("models:\n  - repo: o/a\n", "catalog.yaml:1: models: should be a valid dictionary"),
    ],
)
def test_problems_in_a_catalog(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "catalog.yaml: the file is empty"),
        (b"# nothing\n", "catalog.yaml: the file is empty"),
        (b"models:\n  caf\xe9: {}\n", "catalog.yaml:2: this is not UTF-8 text"),
        (b"models:\n  a: \0\n", "catalog.yaml:2: a character that YAML does not allow"),
        (b"- a\n- b\n", 'catalog.yaml:1: expected "models:" and what belongs to it'),
        (
            b"models:\n  a: [1\nb: 2\n",
            "catalog.yaml:3: while parsing a flow sequence, expected ',' or ']', but got ':'",
        ),
        (
            b"models: {}\n---\nmodels: {}\n",
            "catalog.yaml:2: expected a single document in the stream, but found another document",
        ),
        (b"a: " + b"[" * 5000, "catalog.yaml: too deeply nested"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, expected: str) -> None:
    assert problems(tmp_path, content) == [expected]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"nowhere.yaml: no such file$"):
        load_catalog(tmp_path / "nowhere.yaml", {})
    with pytest.raises(CatalogError, match=r"this is a folder, not a file$"):
        load_catalog(tmp_path, {})


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "models:\n  a:\n    repo: o/a\n    dtype: float8\n    max_images: 0\n    stpes: {}\n  b!:\n    repo: o/b\n"

    told = problems(tmp_path, text, {"MODEL_1": "half"})

    assert len(told) == 5
    assert [line.split(":")[0] for line in told].count("catalog.yaml") == 4


def test_model_ids_are_text_as_written(tmp_path: Path) -> None:
    assert list(load(tmp_path, "models:\n  3.5: {repo: o/a}\n  on: {repo: o/b}\n").models) == ["3.5", "on"]


def test_bad_model_id(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, "models:\n  a/b: {repo: o/a}\n")

    assert line.startswith("catalog.yaml:2: models.a/b: not a model id")


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = (
        "models:\n  a:\n    repo: o/a\n    replicas: &small {min: 0, max: 2}\n"
        "  b:\n    repo: o/b\n    replicas:\n      <<: *small\n      max: 4\n  c: {repo: o/c, replicas: *small}\n"
    )
    catalog = load(tmp_path, text)

    assert [catalog.get(name).replicas.max for name in "abc"] == [2, 4, 2]


def test_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode()).default == "one"


def test_only_local_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "models:\n  a: {repo: weights/a, source: local}\n  b: {repo: weights/b}\n  c: {repo: c, source: builtin}\n"
    catalog = load(tmp_path, text)

    assert catalog.get("a").location() == str(tmp_path / "weights" / "a")
    assert catalog.get("b").location() == "weights/b"
    assert catalog.get("c").repo == "c"
