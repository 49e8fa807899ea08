"""The AUTOMATIC1111 dialect: images, the caller's model, and its latest job."""

from __future__ import annotations

import base64
import json

import pytest

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits
from deployments.catalog.loading import Loading, SchedulerChoice
from deployments.jobs.records.api_keys import NewKey, hash_of, make_key
from deployments.jobs.records.jobs import JobPhase, JobState, ProgressReport
from deployments.storage.metadata.image_file import read_parameters
from deployments.tracker.choices import ModelChoices
from deployments.tracker.previews import encode_preview
from serve.api.automatic1111.samplers import SAMPLERS, SamplerNotFoundError, samplers_of, scheduler_named
from tests.support.api_service import PICTURE, PROMPT, api_service
from tests.support.dialects import asked, drawn, next_claim, opened, picture

pytestmark = pytest.mark.timeout(60)

TXT2IMG, IMG2IMG = "/sdapi/v1/txt2img", "/sdapi/v1/img2img"
BODY = {"prompt": PROMPT}
SMALL = SizeLimits(default_width=64, default_height=64, multiple_of=8, minimum=64, maximum=128, max_pixels=128 * 128)
CATALOG = Catalog(
    default="shapes",
    models={
        "shapes": ModelEntry(
            repo="owner/shapes",
            size=SMALL,
            tasks=("image2image", "inpaint"),
            schedulers=("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"),
        ),
        "other": ModelEntry(repo="owner/other", size=SMALL, max_clip_skip=3, clip_skip=1),
    },
)
KARRAS = ModelEntry(
    repo="owner/karras",
    schedulers=("EulerDiscreteScheduler", "DPMSolverMultistepScheduler"),
    loading=Loading(scheduler=SchedulerChoice(name="DPMSolverMultistepScheduler", config={"use_karras_sigmas": True})),
)


@pytest.fixture
async def service(tmp_path):
    async with api_service(tmp_path, CATALOG) as service:
        yield service


def detail_of(response, status):
    """The sentence of an error, whose form is checked."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error", "detail", "body", "errors"]
    assert body["detail"] == body["errors"]
    return body["detail"]


def in_base64(content):
    return base64.b64encode(content).decode()


class TestTextToImage:
    async def test_every_field_becomes_the_jobs(self, service):
        body = {
            "prompt": PROMPT,
            "negative_prompt": "fog",
            "seed": 5,
            "sampler_name": "Euler",
            "scheduler": "Automatic",
            "steps": 4,
            "cfg_scale": 2.5,
            "width": 128,
            "height": 64,
            "batch_size": 2,
            "n_iter": 2,
            "override_settings": {"sd_model_checkpoint": "shapes", "CLIP_stop_at_last_layers": 2},
            "save_images": True,
            "enable_hr": False,
            "hr_upscaler": "Latent",
            "styles": [],
            "alwayson_scripts": {},
        }
        response, claim = await drawn(service, service.http.post(TXT2IMG, json=body))
        settings, answer = claim.request.settings, response.json()

        assert (settings.num_images, settings.num_inference_steps, settings.guidance_scale) == (4, 4, 2.5)
        assert (settings.width, settings.height, settings.seed) == (128, 64, 5)
        assert settings.scheduler == "EulerDiscreteScheduler"
        assert claim.request.negative_prompt == "fog"
        assert response.headers["X-Job-ID"] == claim.job_id
        assert (len(answer["images"]), answer["parameters"]["steps"]) == (4, 4)

    async def test_answers_with_images_and_all_that_made_them(self, service):
        response, claim = await drawn(service, service.http.post(TXT2IMG, json=BODY | {"batch_size": 2, "seed": 7}))
        answer, info = response.json(), json.loads(response.json()["info"])
        first, _ = await service.tracker.images.of_jobs([claim.job_id])

        assert base64.b64decode(answer["images"][0]) == (content := await service.storage.read(first.key))
        assert (info["job_id"], info["seed"], info["all_seeds"]) == (claim.job_id, 7, [7, 8])
        assert (info["sampler_name"], info["sd_model_name"]) == ("Default", "shapes")
        assert info["infotexts"][0].split("\n") == read_parameters(content).replace("8x8", "64x64").split("\n")

    async def test_a_negative_seed_is_any(self, service):
        _, claim = await drawn(service, service.http.post(TXT2IMG, json=BODY | {"seed": -1}))
        assert claim.request.settings.seed >= 0

    async def test_images_may_stay_away(self, service):
        response, _ = await drawn(service, service.http.post(TXT2IMG, json=BODY | {"send_images": False}))
        assert response.json()["images"] == []

    @pytest.mark.parametrize(
        ("body", "field", "status"),
        [
            ({"prompt": ""}, "prompt", 422),
            ({"prompt": 1}, "prompt", 422),
            ({"steps": 0}, "steps", 422),
            ({"steps": "many"}, "steps", 422),
            ({"cfg_scale": 99}, "cfg_scale", 422),
            ({"width": 65}, "width", 422),
            ({"height": 4096}, "height", 422),
            ({"batch_size": 9}, "batch_size", 422),
            ({"batch_size": 0}, "batch_size", 422),
            ({"n_iter": 2**40}, "n_iter", 422),
            ({"sampler_name": "Euler a"}, "sampler_name", 404),
            ({"sampler_index": "Nothing"}, "sampler_name", 404),
            ({"scheduler": "Karras"}, "scheduler", 404),
            ({"override_settings": {"sd_model_checkpoint": "none"}}, "sd_model_checkpoint", 422),
            ({"enable_hr": True}, "enable_hr", 422),
            ({"tiling": True}, "tiling", 422),
            ({"restore_faces": True}, "restore_faces", 422),
            ({"subseed_strength": 0.5}, "subseed_strength", 422),
            ({"script_name": "x/y/z plot"}, "script_name", 422),
            ({"alwayson_scripts": {"ControlNet": {"args": []}}}, "alwayson_scripts", 422),
        ],
    )
    async def test_a_bad_field_is_named_as_the_client_calls_it(self, service, body, field, status):
        sentence = detail_of(await service.http.post(TXT2IMG, json=BODY | body), status)

        assert sentence.startswith(f"{field}: ")
        assert "settings." not in sentence
        assert (await service.tracker.counts.by_state()).total == 0

    async def test_a_failed_job_says_why(self, service):
        async with asked(service.http.post(TXT2IMG, json=BODY)) as waiting:
            claim = await next_claim(service)
            await service.tracker.fail(claim.job_id, claim.fence, "The model broke.", retryable=False)
            response = await waiting
        assert detail_of(response, 500) == "The model broke."
        assert response.headers["X-Job-ID"] == claim.job_id

    async def test_other_errors_have_this_form_too(self, service):
        assert detail_of(await service.http.get("/sdapi/v1/nothing"), 404)
        assert detail_of(await service.http.get(TXT2IMG), 405)


class TestLayersOfClip:
    @pytest.mark.parametrize(("stop", "skipped"), [(1, 0), (2, 1), (4, 3), (None, 1)])
    async def test_are_counted_from_one(self, service, stop, skipped):
        options = {"sd_model_checkpoint": "other", "CLIP_stop_at_last_layers": stop}
        request = service.http.post(TXT2IMG, json=BODY | {"override_settings": options})
        async with asked(request) as waiting:
            claim = await next_claim(service, "other")
            await service.finish(claim)
            response = await waiting
        info = json.loads(response.json()["info"])

        assert claim.request.settings.clip_skip == skipped
        assert info["clip_skip"] == skipped + 1
        assert (f"Clip skip: {skipped + 1}" in info["infotexts"][0]) == (skipped > 0)

    @pytest.mark.parametrize("stop", [0, 5, -1])
    async def test_that_the_model_has_not_are_refused(self, service, stop):
        options = {"sd_model_checkpoint": "other", "CLIP_stop_at_last_layers": stop}
        response = await service.http.post(TXT2IMG, json=BODY | {"override_settings": options})
        told = f"CLIP_stop_at_last_layers: {stop} is not possible; this model takes 1 to 4."

        assert detail_of(response, 422) == told

    async def test_are_told_with_the_options(self, service):
        assert (await service.http.get("/sdapi/v1/options")).json()["CLIP_stop_at_last_layers"] == 1
        await service.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "other"})
        assert (await service.http.get("/sdapi/v1/options")).json()["CLIP_stop_at_last_layers"] == 2


class TestImageToImage:
    @pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
    async def test_starts_from_a_picture(self, service, prefix):
        body = BODY | {"init_images": [prefix + in_base64(picture())], "denoising_strength": 0.5}
        response, claim = await drawn(service, service.http.post(IMG2IMG, json=body))

        assert response.status_code == 200, response.text
        assert claim.request.settings.strength == 0.5
        assert (await service.tracker.inputs.find(claim.request.settings.image)).width == 64
        assert "init_images" not in response.json()["parameters"]

    @pytest.mark.parametrize(("invert", "shade"), [(0, 255), (1, 0)])
    async def test_draws_anew_where_the_mask_is_white(self, service, invert, shade):
        mask = in_base64(picture(colour=255, mode="L"))
        body = BODY | {"init_images": [in_base64(picture())], "mask": mask, "inpainting_mask_invert": invert}
        _, claim = await drawn(service, service.http.post(IMG2IMG, json=body))
        kept = await service.tracker.inputs.find(claim.request.settings.mask)

        assert opened(await service.storage.read(kept.key)).convert("L").getpixel((5, 5)) == shade
        assert claim.request.settings.strength == 0.75

    @pytest.mark.parametrize(
        ("body", "field", "status"),
        [
            ({}, "init_images", 422),
            ({"init_images": []}, "init_images", 422),
            ({"init_images": ["", ""]}, "init_images", 422),
            ({"init_images": ["no picture!"]}, "init_images", 422),
            ({"init_images": [in_base64(b"no picture")]}, "init_images", 415),
            ({"init_images": [in_base64(picture())], "mask": in_base64(picture(8, 8))}, "mask", 422),
            ({"init_images": [in_base64(picture())], "denoising_strength": 2}, "denoising_strength", 422),
            ({"init_images": [in_base64(picture())], "resize_mode": 1}, "resize_mode", 422),
        ],
    )
    async def test_that_cannot_be_is_refused(self, service, body, field, status):
        sentence = detail_of(await service.http.post(IMG2IMG, json=BODY | body), status)
        assert sentence.startswith(f"{field}: ")


class TestOptions:
    async def test_the_model_is_the_callers_own(self, tmp_path):
        async with api_service(tmp_path, CATALOG, trusted_proxies=["10.1.2.3"]) as service:
            ann, bob = ({"X-Forwarded-For": address} for address in ("1.1.1.1", "2.2.2.2"))

            async def model(headers):
                return (await service.http.get("/sdapi/v1/options", headers=headers)).json()["sd_model_checkpoint"]

            whole = (await service.http.get("/sdapi/v1/options", headers=ann)).json()
            assert whole["sd_model_checkpoint"] == "shapes"
            echoed = whole | {"sd_model_checkpoint": "other", "some_extension": True}
            assert (await service.http.post("/sdapi/v1/options", json=echoed, headers=ann)).json() == {}

            assert (await model(ann), await model(bob)) == ("other", "shapes")
            async with asked(service.http.post(TXT2IMG, json=BODY, headers=ann)):
                assert (await next_claim(service, "other")).request.model_id == "other"

    async def test_an_unknown_model_is_refused(self, service):
        response = await service.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "none"})
        assert detail_of(response, 422) == 'sd_model_checkpoint: there is no model "none"; available: shapes, other.'

    async def test_a_model_that_has_left_the_catalog_is_the_default(self, service):
        await service.tracker.choose_model("10.1.2.3", "former")
        assert (await service.http.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == "shapes"

    async def test_lists_have_what_clients_read(self, service):
        async def names(path, key="name"):
            return [item[key] for item in (await service.http.get(f"/sdapi/v1/{path}")).json()]

        assert await names("sd-models", "title") == ["shapes", "other"]
        assert await names("samplers") == ["Default", "DPM++ 2M", "Euler", "DDIM"]
        assert await names("schedulers") == ["automatic"]
        assert await names("upscalers") == ["None"]
        assert await names("sd-vae") == await names("latent-upscale-modes") == []

    def test_only_so_many_clients_are_remembered(self):
        choices = ModelChoices(most=2)
        for client in ("ann", "bob", "ann", "cat"):
            choices.choose(client, "shapes")
        assert [choices.of(client) for client in ("ann", "bob", "cat")] == ["shapes", None, "shapes"]


class TestSamplers:
    def test_are_classes_of_diffusers(self):
        import diffusers  # noqa: PLC0415 - it takes seconds

        for sampler in SAMPLERS[1:]:
            assert hasattr(diffusers, sampler.scheduler), sampler.name

    @pytest.mark.parametrize("name", [None, "", "Default", "automatic"])
    def test_none_is_the_models_own(self, name):
        assert scheduler_named(KARRAS, name, None) is None

    @pytest.mark.parametrize("name", ["DPM++ 2M Karras", "dpm++ 2m karras", "DPM++ 2M", "k_dpmpp_2m"])
    @pytest.mark.parametrize("schedule", [None, "automatic", "Karras"])
    def test_have_the_schedule_of_the_model(self, name, schedule):
        assert scheduler_named(KARRAS, name, schedule) == "DPMSolverMultistepScheduler"

    def test_whose_schedule_the_model_has_not_are_not_there(self):
        plain = CATALOG.get("shapes")
        assert "DPM++ 2M Karras" not in [sampler.name for sampler in samplers_of(plain)]
        for name, schedule in (("DPM++ 2M Karras", None), ("DPM++ 2M", "Karras"), ("UniPC", None)):
            with pytest.raises(SamplerNotFoundError):
                scheduler_named(plain, name, schedule)


class TestLatestJob:
    async def progress(self, service, **params):
        return (await service.http.get("/sdapi/v1/progress", params=params)).json()

    async def test_nothing_is_under_way(self, service):
        answer = await self.progress(service)
        assert (answer["progress"], answer["state"]["job_count"]) == (0, 0)
        assert (await service.http.post("/sdapi/v1/interrupt")).json() == {}

    async def test_progress_is_that_of_the_callers_latest(self, service):
        await service.submit()
        claim = await service.start()
        preview = encode_preview((PICTURE * 255).astype("uint8"))
        report = ProgressReport(
            job_id=claim.job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=6, preview=preview
        )
        await service.tracker.report([report])
        answer = await self.progress(service)

        total = claim.request.settings.total_steps
        assert answer["progress"] == round(6 / total, 3)
        assert answer["state"]["job"] == claim.job_id
        assert (answer["state"]["sampling_step"], answer["state"]["sampling_steps"]) == (6, total)
        shown = opened(base64.b64decode(answer["current_image"]))
        assert (shown.format, shown.size) == ("PNG", (64, 64))
        assert (await self.progress(service, skip_current_image=True))["current_image"] is None
        assert detail_of(await service.http.get("/sdapi/v1/progress?skip_current_image=x"), 422)

    @pytest.mark.parametrize("path", ["interrupt", "skip"])
    async def test_ends_on_request_and_leaves_others_alone(self, tmp_path, path):
        async with api_service(tmp_path, CATALOG, trusted_proxies=["10.1.2.3"]) as service:
            ann, bob = ({"X-Forwarded-For": address} for address in ("1.1.1.1", "2.2.2.2"))
            async with asked(service.http.post(TXT2IMG, json=BODY, headers=ann)) as waiting:
                claim = await next_claim(service)
                await service.http.post(f"/sdapi/v1/{path}", headers=bob)
                assert not (await service.job(claim.job_id)).cancel_requested
                await service.http.post(f"/sdapi/v1/{path}", headers=ann)
                assert (await service.job(claim.job_id)).cancel_requested
                assert (await service.http.get("/sdapi/v1/progress", headers=ann)).json()["state"]["interrupted"]
                await service.tracker.confirm_cancel(claim.job_id, claim.fence)
                assert detail_of(await waiting, 409)
            assert (await service.job(claim.job_id)).state is JobState.CANCELLED


async def test_the_api_key_is_the_password(tmp_path):
    async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
        key_id, key = make_key()
        await service.tracker.keys.add(key_id, hash_of(key), NewKey(name="ann"), "root")

        assert (await service.http.get("/sdapi/v1/options", auth=("user", key))).status_code == 200
        assert detail_of(await service.http.get("/sdapi/v1/options", auth=("user", "wrong")), 401)
