from pathlib import Path

import pytest

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError

SANA = 'sana;owner/sana;Sana Sprint;huggingface;false;{"fixed_steps": 2}'


def load(tmp_path: Path, text: str = "models:\n  one: {repo: owner/one}\n", **environ: str) -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    return load_catalog(path, environ)


def test_models_are_added_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    catalog = load(
        tmp_path,
        MODEL_10="ten;owner/ten;;huggingface;false",
        MODEL_2="two;owner/two;The second;HuggingFace;true",
        MODEL_FOLDER="./models",
        MODEL_3="",
    )

    assert list(catalog.models) == ["one", "two", "ten"]
    assert catalog.default == "one"
    assert catalog.get("two").description == "The second"
    assert catalog.get("two").token_env == "HF_TOKEN"
    assert catalog.get("ten").token_env is None


def test_variables_alone_are_enough(tmp_path: Path) -> None:
    assert load(tmp_path, "models:\n", MODEL_1=SANA).default == "sana"


@pytest.mark.parametrize(
    "text",
    [
        SANA,
        f'"{SANA}"',
        f"'{SANA}'",
        SANA.replace('"', '\\"'),
        '"' + SANA.replace('"', '\\\\"') + '"',
        " sana ; owner/sana ; Sana ; huggingface ; false ; '{\"fixed_steps\": 2}' ",
    ],
)
def test_quotes_of_env_files(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, MODEL_1=text).get("sana").step_config() == {"fixed_steps": 2}


def test_step_range(tmp_path: Path) -> None:
    text = 'a;o/a;;huggingface;requires token;{"steps": {"min": 10, "max": 40, "default": 20}}'
    model = load(tmp_path, MODEL_1=text).get("a")

    assert model.step_config() == {"steps": {"min": 10, "max": 40, "default": 20}}
    assert model.token_env == "HF_TOKEN"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("half", "MODEL_4: repo: missing; the format is name;repo;description;source;auth[;options_json]"),
        (
            "a;o/a;text;huggingface",
            "MODEL_4: auth: missing; the format is name;repo;description;source;auth[;options_json]",
        ),
        (
            ";o/a;;huggingface;false",
            "MODEL_4: name: missing; the format is name;repo;description;source;auth[;options_json]",
        ),
        ("a;o/a;;huggingface;maybe", "MODEL_4: auth: should be true or false"),
        ("a;12345;;civitai;false", "MODEL_4: source: should be 'builtin', 'huggingface' or 'local'"),
        ("a;/srv/a;;huggingface;false", "MODEL_4: repo: not a hub id (owner/name); for a folder set source: local"),
        ("a;o/a;;huggingface;false;{fixed_steps}", "MODEL_4: options_json: not JSON: "),
        ("a;o/a;;huggingface;false;[2]", 'MODEL_4: options_json: should be an object such as {"fixed_steps": 2}'),
        (
            'a;o/a;;huggingface;false;{"fixed_step": 2}',
            'MODEL_4: options_json.fixed_step: unknown option; did you mean "fixed_steps"?',
        ),
        ('a;o/a;;huggingface;false;{"type": "t2v"}', "MODEL_4: options_json.type: unknown option"),
        ('a;o/a;;huggingface;false;{"steps": 2}', 'MODEL_4: options_json.steps: should be an object with "min"'),
        (
            'a;o/a;;huggingface;false;{"steps": {"mn": 2}}',
            "MODEL_4: options_json.steps.mn: unknown option; did you mean",
        ),
        (
            'a;o/a;;huggingface;false;{"fixed_steps": "2"}',
            "MODEL_4: options_json.fixed_steps: should be a valid integer",
        ),
        (
            'a;o/a;;huggingface;false;{"steps": {"min": 1, "max": 4, "default": 9}}',
            "MODEL_4: options_json.steps.default: 9 is not within 1..4",
        ),
        ("a b;o/a;;huggingface;false", "MODEL_4: name: not a model id"),
        ("one;o/a;;huggingface;false", 'MODEL_4: name: "one" is already in '),
    ],
)
def test_what_cannot_be_read_names_variable_and_part(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, MODEL_4=text)

    (line,) = str(caught.value).splitlines()
    assert line.startswith(expected)


def test_name_of_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"catalog.yaml:2$"):
        load(tmp_path, MODEL_1="one;o/a;;huggingface;false")


def test_two_variables_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r'^MODEL_5: name: "sana" is also the name of MODEL_1$'):
        load(tmp_path, MODEL_1=SANA, MODEL_5=SANA)
