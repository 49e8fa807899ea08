"""What a model's loading needs is looked up before anything of the model is read, and named with the way to have it."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.requirements import check_requirements


@pytest.fixture
def nothing_is_installed(monkeypatch):
    find_spec = importlib.util.find_spec
    packages = {"torchao", "bitsandbytes", "gguf", "xformers"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name in packages else find_spec(name, *more)
    )
    monkeypatch.setattr("shutil.which", lambda program: None)
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)


def refusal(device="cuda", **loading) -> str:
    with pytest.raises(ModelLoadError) as caught:
        check_requirements(Loading.model_validate(loading), device)
    return str(caught.value)


@pytest.mark.usefixtures("nothing_is_installed")
class TestMissing:
    @pytest.mark.parametrize(("method", "kind"), [("torchao", "int8"), ("bitsandbytes", "nf4")])
    def test_package_of_a_quantization(self, method, kind):
        message = refusal(quantization={"method": method, "kind": kind})

        assert message == f'quantization with {method} needs its package: pip install "{method}".'

    @pytest.mark.parametrize("backend", ["flash", "flash_varlen", "sage", "sage_varlen"])
    def test_package_of_attention_kernels(self, backend):
        message = refusal(attention_backend=backend)

        assert message.startswith("loading.attention_backend: ")
        assert "Please install `" in message

    def test_xformers(self):
        expected = 'the attention backend xformers needs its package: pip install "xformers".'
        assert refusal(attention_backend="xformers") == expected

    def test_kernels_of_xformers_for_this_torch(self, monkeypatch):
        library = SimpleNamespace(_cpp_library_load_exception=ImportError("It was built for\nPyTorch 2.10.0+cu128."))
        monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: name == "xformers")
        monkeypatch.setitem(sys.modules, "xformers", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "xformers._cpp_lib", library)
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.35")
        message = refusal(attention_backend="xformers")

        assert f"xformers 0.0.35 do not load with torch {torch.__version__}: It was built for PyTorch 2.10" in message
        assert "pip install --upgrade xformers" in message

    @pytest.mark.parametrize(("device", "package"), [("cuda", "gcc"), ("cpu", "g++")])
    def test_compiler(self, device, package):
        expected = f"loading.compile needs a compiler: apt-get install {package}."
        assert refusal(device, compile=True) == expected

    def test_nothing_where_nothing_is_asked_for(self):
        check_requirements(Loading(), "cuda")

    def test_it_is_looked_up_before_the_hub_is_asked(self, monkeypatch):
        def ask(*_, **__):
            raise AssertionError("The hub was asked.")

        for name in ("load_config", "from_pretrained", "download"):
            monkeypatch.setattr(f"diffusers.DiffusionPipeline.{name}", ask)
        entry = ModelEntry(repo="owner/name", loading={"quantization": {"method": "torchao", "kind": "int8"}})
        with pytest.raises(ModelLoadError, match=r'owner/name could not be loaded: .* pip install "torchao"'):
            load_pipeline(entry, "cpu")


def test_a_quantized_file_that_is_not_there(tmp_path):
    quantization = {"method": "gguf", "file": str(tmp_path / "none.gguf")}

    assert refusal(quantization=quantization) == "the quantized file none.gguf is not there."


def test_a_compiler_that_the_environment_names(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setenv("CC", "/opt/cc")

    check_requirements(Loading(compile=True), "cuda")
