"""What is made for AUTOMATIC1111's web UI: webuiapi unmodified, and the calls of Open WebUI and SillyTavern."""

from __future__ import annotations

import base64
import io
import json

import httpx
import PIL.Image
import pytest
import webuiapi

from tests.support.service import pixels, shown

PROMPT = "a large red circle on a blue background"
SHOWN = ("circle", "red", "blue")


@pytest.fixture
def api(service):
    url = httpx.URL(service.url)
    return webuiapi.WebUIApi(host=url.host, port=url.port, sampler="Euler", scheduler="automatic", steps=20)


@pytest.fixture
def http(service):
    with httpx.Client(base_url=service.url, timeout=120) as http:
        yield http


class TestWebuiapi:
    def test_lists_and_options(self, api):
        assert [model["title"] for model in api.get_sd_models()] == ["shapes"]
        assert "Euler" in [sampler["name"] for sampler in api.get_samplers()]
        assert api.get_options()["sd_model_checkpoint"] == "shapes"
        api.set_options({"sd_model_checkpoint": "shapes"})
        assert api.get_progress()["state"]["job_count"] in (0, 1)
        api.interrupt()

    def test_text_to_image(self, api, service):
        result = api.txt2img(prompt=PROMPT, width=64, height=64, cfg_scale=1.5, seed=7, batch_size=2)

        assert len(result.images) == 2
        assert result.info["all_seeds"] == [7, 8]
        assert result.info["infotexts"][0].startswith(PROMPT)
        assert service.status(result.info["job_id"])["settings"]["scheduler"] == "EulerDiscreteScheduler"
        file = io.BytesIO()
        result.image.save(file, "PNG")
        assert shown(file.getvalue()) == SHOWN

    def test_image_to_image_and_inpainting(self, api):
        start = PIL.Image.new("RGB", (64, 64), "blue")
        mask = PIL.Image.new("L", (64, 64), 0)
        mask.paste(255, (0, 0, 32, 64))
        for more in ({}, {"mask_image": mask}):
            result = api.img2img(
                images=[start], prompt=PROMPT, width=64, height=64, denoising_strength=0.6, cfg_scale=1.5, **more
            )
            assert result.image.size == (64, 64)

    def test_an_error_has_its_sentence(self, api):
        with pytest.raises(RuntimeError) as error:
            api.txt2img(prompt=PROMPT, width=65, height=64)
        status, text = error.value.args
        assert status == 422
        assert json.loads(text)["detail"].startswith("width: 65 is not")


class TestOpenWebUI:
    """``backend/open_webui/routers/images.py`` of https://github.com/open-webui/open-webui."""

    def test_engine_openai(self, http):
        headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
        data = {"model": "dall-e-2", "prompt": PROMPT, "n": 1, "size": "64x64", "response_format": "b64_json"}
        answer = http.post("/v1/images/generations", json=data, headers=headers)
        answer.raise_for_status()
        for image in answer.json()["data"]:
            assert "url" not in image
            assert pixels(base64.b64decode(image["b64_json"])).shape == (64, 64, 3)

    def test_engine_openai_fetches_urls_with_its_key(self, http):
        data = {"model": "dall-e-2", "prompt": PROMPT, "n": 1, "size": "64x64"}
        headers = {"Authorization": "Bearer any"}
        (image,) = http.post("/v1/images/generations", json=data, headers=headers).json()["data"]
        fetched = http.get(image["url"], headers=headers)
        assert fetched.headers["content-type"].split("/")[0] == "image"

    def test_engine_openai_edits(self, http):
        file = io.BytesIO()
        PIL.Image.new("RGB", (64, 64), "blue").save(file, "PNG")
        data = {"model": "gpt-image-1", "prompt": PROMPT, "n": "1", "size": "64x64"}
        files = [("image", ("a.png", file.getvalue(), "image/png"))]
        answer = http.post("/v1/images/edits", data=data, files=files, headers={"Authorization": "Bearer any"})
        answer.raise_for_status()
        assert pixels(base64.b64decode(answer.json()["data"][0]["b64_json"])).shape == (64, 64, 3)

    def test_engine_automatic1111(self, http):
        auth = {"authorization": f"Basic {base64.b64encode(b'user:key').decode()}"}
        options = http.get("/sdapi/v1/options", headers=auth).json()
        assert options["sd_model_checkpoint"] == "shapes"
        options["sd_model_checkpoint"] = "shapes"
        http.post("/sdapi/v1/options", json=options, headers=auth).raise_for_status()
        models = http.get("/sdapi/v1/sd-models", headers=auth).json()
        assert [(model["title"], model["model_name"]) for model in models] == [("shapes", "shapes")]
        data = {"prompt": PROMPT, "batch_size": 1, "width": 64, "height": 64, "steps": 20, "negative_prompt": ""}
        answer = http.post("/sdapi/v1/txt2img", json=data, headers=auth).json()

        assert json.loads(answer["info"])["seed"] >= 0
        assert pixels(base64.b64decode(answer["images"][0])).shape == (64, 64, 3)


class TestSillyTavern:
    """``src/endpoints/stable-diffusion.js`` of https://github.com/SillyTavern/SillyTavern."""

    def test_looks_around(self, http):
        for path, key in (("upscalers", "name"), ("samplers", "name"), ("schedulers", "name"), ("sd-models", "title")):
            items = http.get(f"/sdapi/v1/{path}").raise_for_status().json()
            assert items
            assert all(item[key] for item in items)
        for path in ("latent-upscale-modes", "sd-vae"):
            assert http.get(f"/sdapi/v1/{path}").raise_for_status().json() == []
        assert not http.get("/sdapi/v1/sd-modules").is_success  # Forge's, which it does without

    def test_chooses_a_model_and_waits_for_it(self, http):
        http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "shapes"}).raise_for_status()
        progress = http.get("/sdapi/v1/progress").raise_for_status().json()
        assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)

    def test_generates(self, http, service):
        assert "forge_preset" not in http.get("/sdapi/v1/options").json()
        body = {
            "url": service.url,
            "auth": "user:key",
            "prompt": PROMPT,
            "negative_prompt": "",
            "sampler_name": "Euler",
            "scheduler": "automatic",
            "steps": 20,
            "cfg_scale": 1.5,
            "width": 64,
            "height": 64,
            "restore_faces": False,
            "enable_hr": False,
            "hr_upscaler": "Latent",
            "hr_scale": 2,
            "hr_additional_modules": [],
            "denoising_strength": 0.7,
            "hr_second_pass_steps": 0,
            "seed": 7,
            "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": None},
            "override_settings_restore_afterwards": True,
            "clip_skip": 1,
            "save_images": True,
            "send_images": True,
            "do_not_save_grid": False,
            "do_not_save_samples": False,
        }
        answer = http.post("/sdapi/v1/txt2img", json=body).raise_for_status().json()
        assert shown(base64.b64decode(answer["images"][0])) == SHOWN

    def test_interrupts_when_its_user_leaves(self, http):
        assert http.post("/sdapi/v1/interrupt").is_success
