"""What the catalog says of a model's loading is what its pipeline is."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from deployments.accelerator import Accelerator
from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.tasks import FAMILIES
from deployments.model.loading import controlnet_weights_of, device_of, load_model, lora_weights_of, weights_of
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import choose_dtype
from deployments.pipelines.tasks import can_do, families
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_controlnet, save_folder, save_lora, save_single_file
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

TASKS = ("text2image", "image2image", "inpaint")
CARD = Accelerator("cuda", "NVIDIA L4", 24 << 30, (8, 9))


def catalog_entry(folder: Path, text: str) -> ModelEntry:
    path = folder / "catalog.yaml"
    path.write_text(f"models:\n  tiny:\n    source: local\n    replicas: {{num_gpus: 0}}\n{text}")
    return load_catalog(path, {}).get("tiny")


def test_every_word_of_the_catalog_arrives(tmp_path):
    save_folder(tmp_path / "tiny")
    save_lora(tmp_path / "style")
    entry = catalog_entry(
        tmp_path,
        """
    repo: tiny
    dtype: float32
    prompt_encoding: long
    loading:
      attention_backend: native
      layerwise_casting: float8_e4m3fn
      vae_slicing: true
      vae_tiling: true
      safety_checker: false
      scheduler: {name: EulerDiscreteScheduler, config: {use_karras_sigmas: true}}
      loras: [{repo: style, source: local, weight_name: pytorch_lora_weights.safetensors, scale: 0.25}]
""",
    )
    pipeline = load_model(entry, {})

    assert type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipeline.scheduler.config.use_karras_sigmas
    assert pipeline.vae.use_slicing
    assert pipeline.vae.use_tiling
    assert pipeline.get_active_adapters() == ["lora_0"]
    assert "float8" in str({parameter.dtype for parameter in pipeline.unet.parameters()})
    assert "encode_prompt" in vars(pipeline)
    assert pipeline.device.type == "cpu"
    assert np.isfinite(draw_image(pipeline, image_request(prompt="a (red:1.2) circle " * 30))).all()


def test_a_single_file_and_its_configs(tmp_path):
    save_folder(tmp_path / "configs")
    save_single_file(tmp_path / "mine.safetensors")
    entry = catalog_entry(tmp_path, "    repo: mine.safetensors\n    loading: {config: ./configs}\n")
    expected = draw_image(tiny_stable_diffusion(), image_request())

    assert np.array_equal(draw_image(load_model(entry, {}), image_request()), expected)
    assert weights_of(entry).startswith("sha256:")


def test_the_folder_of_a_model_that_cannot_be_loaded_is_not_told(tmp_path):
    entry = catalog_entry(tmp_path, "    repo: none\n")
    with pytest.raises(ModelLoadError) as caught:
        load_model(entry, {})

    assert str(caught.value) == "none could not be loaded: there is no such folder or file."


class TestDevice:
    def use(self, monkeypatch, card, why=None):
        monkeypatch.setattr("deployments.model.loading.find_accelerator", lambda: card)
        monkeypatch.setattr("deployments.model.loading.why_unusable", lambda: why)

    def entry(self, num_gpus=1, device="auto"):
        return ModelEntry.model_validate(
            {"repo": "owner/name", "loading": {"device": device}, "replicas": {"num_gpus": num_gpus}}
        )

    @pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
    def test_is_the_gpu_that_torch_can_use(self, monkeypatch, kind):
        self.use(monkeypatch, Accelerator(kind, "Card", 1 << 30, None))

        assert device_of(self.entry()) == kind
        assert device_of(self.entry(device=kind)) == kind

    def test_is_the_processor_where_the_copy_has_no_gpu_or_is_not_to_use_it(self, monkeypatch):
        self.use(monkeypatch, CARD)

        assert device_of(self.entry(num_gpus=0)) == "cpu"
        assert device_of(self.entry(device="cpu")) == "cpu"

    @pytest.mark.parametrize("device", ["auto", "cuda"])
    def test_is_never_silently_the_processor(self, monkeypatch, device):
        self.use(monkeypatch, None, "The NVIDIA driver 535.1 is too old.")
        with pytest.raises(ModelLoadError) as caught:
            load_model(self.entry(device=device), {})

        expected = "owner/name needs a GPU (replicas.num_gpus is 1). The NVIDIA driver 535.1 is too old."
        assert str(caught.value) == expected

    def test_without_any_gpu_the_field_to_change_is_named(self, monkeypatch):
        self.use(monkeypatch, None)
        with pytest.raises(ModelLoadError, match=r"This machine has no GPU; .* set replicas.num_gpus: 0"):
            device_of(self.entry(num_gpus=0.5))

    def test_another_kind_of_gpu_is_refused(self, monkeypatch):
        self.use(monkeypatch, CARD)
        with pytest.raises(
            ModelLoadError, match=r"loading.device: owner/name is to compute on xpu, and the GPU here is"
        ):
            device_of(self.entry(device="xpu"))


def test_a_share_of_a_gpu_caps_its_memory(tmp_path):
    repo = str(save_folder(tmp_path / "tiny"))
    entry = ModelEntry.model_validate({"repo": repo, "source": "local", "replicas": {"num_gpus": 0.5}})
    with pretend_gpu(capacity=8 << 30):
        load_model(entry, {})
        torch.empty(3 << 30, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(4 << 30, dtype=torch.uint8, device="cuda")


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (None, torch.float32),
        (CARD, torch.bfloat16),
        (Accelerator("cuda", "NVIDIA T4", 16 << 30, (7, 5)), torch.float16),
        (Accelerator("cuda", "AMD Instinct MI300X", 192 << 30, None), torch.bfloat16),
    ],
)
def test_the_dtype_is_one_that_the_device_computes_natively(card, expected):
    assert choose_dtype("auto", card) is expected
    assert choose_dtype("float32", card) is torch.float32


def test_weights_of_the_hub_are_known_by_their_revision():
    assert weights_of(ModelEntry(repo="owner/name")) == "owner/name@main"
    assert weights_of(ModelEntry(repo="owner/name", revision="v1")) == "owner/name@v1"


class TestControlNet:
    def test_it_comes_with_the_pipeline_of_the_family(self, tmp_path):
        save_folder(tmp_path / "tiny")
        save_controlnet(tmp_path / "lines")
        entry = catalog_entry(tmp_path, "    repo: tiny\n    controlnet: {repo: lines, source: local}\n")
        pipeline = load_model(entry, {})
        picture = Image.new("RGB", (16, 16), "red")

        assert type(pipeline).__name__ == "StableDiffusionControlNetPipeline"
        assert entry.control_tasks == ("text2image", "image2image", "inpaint")
        plain = draw_image(pipeline, image_request())
        assert np.array_equal(plain, draw_image(tiny_stable_diffusion(), image_request()))
        assert np.abs(plain - draw_image(pipeline, image_request(inputs={"control_image": picture}))).max() > 1e-3
        assert controlnet_weights_of(entry).startswith("sha256:")

    @pytest.mark.parametrize(
        ("controlnet", "reason"),
        [
            ("none", "the ControlNet none is not there"),
            ("other", "the ControlNet other, a ControlNetModel, cannot be used with a StableDiffusionPipeline"),
            ("tiny/unet", "the ControlNet unet, a UNet2DConditionModel, cannot be used"),
            ("broken", "the ControlNet broken could not be loaded"),
        ],
    )
    def test_one_of_another_family_is_refused_with_the_reason(self, tmp_path, controlnet, reason):
        save_folder(tmp_path / "tiny")
        other = tiny_stable_diffusion()
        other.unet = UNet2DConditionModel.from_config({**other.unet.config, "cross_attention_dim": 32})
        save_controlnet(tmp_path / "other", other)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "config.json").write_text("{}")
        entry = catalog_entry(tmp_path, f"    repo: tiny\n    controlnet: {{repo: {controlnet}, source: local}}\n")
        with pytest.raises(ModelLoadError) as caught:
            load_model(entry, {})

        assert reason in str(caught.value)
        assert str(tmp_path) not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_loras_of_requests_are_loaded_and_off(tmp_path):
    save_folder(tmp_path / "tiny")
    save_lora(tmp_path / "style")
    entry = catalog_entry(tmp_path, "    repo: tiny\n    request_loras: {ink: {repo: style, source: local}}\n")
    pipeline = load_model(entry, {})

    assert pipeline.get_list_adapters() == {"unet": ["request_ink"]}
    assert np.array_equal(draw_image(pipeline, image_request()), draw_image(tiny_stable_diffusion(), image_request()))
    assert lora_weights_of(entry)["ink"].startswith("sha256:")


def test_a_task_that_the_family_cannot_do_makes_the_model_unavailable(tmp_path):
    tiny_pipeline(diffusers.PixArtSigmaPipeline).save_pretrained(tmp_path / "tiny")
    entry = catalog_entry(tmp_path, "    repo: tiny\n    tasks: [image2image]\n")
    with pytest.raises(ModelLoadError, match="tasks: a PixArtSigmaPipeline cannot do image2image; leave it out"):
        load_model(entry, {})


class TestTasksThatAreFoundOut:
    @pytest.mark.parametrize("class_name", FAMILIES)
    def test_the_families_can_do_what_is_said_of_them(self, class_name):
        family = getattr(diffusers, class_name)
        assert {task for task in ("image2image", "inpaint") if can_do(family, task)} == set(FAMILIES[class_name].tasks)
        controlled = families()["text2image"].get(f"{_family_name(family)}-controlnet")
        if controlled is not None and family is not diffusers.ZImagePipeline:
            wanted = {task for task in TASKS if can_do(controlled, task, with_controlnet=True)}
            assert wanted == set(FAMILIES[class_name].control_tasks)

    def test_a_folder_without_a_known_family_promises_nothing(self, tmp_path):
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / "model_index.json").write_text('{"_class_name": "SomethingPipeline"}')
        assert catalog_entry(tmp_path, "    repo: tiny\n").tasks == ()
        assert catalog_entry(tmp_path, "    repo: none\n").tasks == ()

    def test_what_the_catalog_says_counts(self, tmp_path):
        save_folder(tmp_path / "tiny")
        assert catalog_entry(tmp_path, "    repo: tiny\n").tasks == ("image2image", "inpaint")
        assert catalog_entry(tmp_path, "    repo: tiny\n    tasks: []\n").tasks == ()
        assert ModelEntry(repo="owner/name").with_found_tasks().tasks == ()


def _family_name(family: type) -> str:
    return next((name for name, member in families()["text2image"].items() if member is family), "")
