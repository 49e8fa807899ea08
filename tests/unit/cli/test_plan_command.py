"""``cyberimage plan``: a table, a sentence, and an exit code."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from serve.cli import main as cli
from tests.support.stage_bytes import save_configs
from tests.support.tiny_pipelines.families import FAMILIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_configs(FAMILIES["flux"].build(), tmp_path_factory.mktemp("flux"))


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["plan", *arguments])


def test_a_folder_of_configs_is_enough(folder: Path) -> None:
    result = run(str(folder), "--gpu", "24GiB", "--size", "256x256")

    assert result.exit_code == 0, result.output
    assert "FluxPipeline" in result.output
    assert "text_encoder_2" in result.output
    assert "nf4 (bitsandbytes)" in result.output
    assert "The service would choose everything on the GPU: one 256x256 image needs" in result.output


def test_what_does_not_fit_is_said_with_the_way_out(folder: Path) -> None:
    result = run(str(folder), "--gpu", "1000MiB", "--size", "256x256", "--json")
    answer = json.loads(result.stdout)

    assert result.exit_code == 1
    assert answer["chosen"] is None
    assert "does not fit the GPU" in answer["conclusion"]
    assert not any(row["fits"] for row in answer["choices"])
    assert set(answer["choices"][0]["needed"]) == {"encoding", "denoising", "decoding"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), '"nothing" is no model of the catalog'),
        (("owner/name", "--gpu", "much"), '--gpu: "much" is no amount of memory'),
        (("owner/name", "--size", "large"), '--size: "large" is not WIDTHxHEIGHT'),
        (("owner/name", "--size", "100x100"), "--size: "),
    ],
)
def test_wrong_use_is_refused_at_its_option(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert words in result.output


def test_a_folder_without_configs_is_refused(tmp_path: Path) -> None:
    result = run(str(tmp_path), "--gpu", "24GiB")

    assert result.exit_code == 1
    assert "has no model_index.json" in result.output
