"""Requests that are not right: 4xx, one sentence that names the field and what would be right, and no job."""

from __future__ import annotations

import json

import pytest

from tests.support.api_service import PROMPT, api_service, sentence

GOOD = {"model_id": "shapes", "prompt": PROMPT}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def service(tmp_path):
    database = tmp_path / "cyberimage.db"
    async with api_service(tmp_path) as service:
        database.unlink()  # the tracker would make it anew
        yield service
    assert not database.exists(), "a refused request has come to the tracker"


async def refusal(service, body) -> str:
    """Send a body, which may be text that ``json`` would not write, and return the sentence of the 400."""
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return sentence(await service.http.post("/api/generate", content=content, headers=JSON), 400)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt: it is empty; say what the image should show."),
        ({"prompt": " \n\t\u3000"}, "prompt: it is empty; say what the image should show."),
        ({"prompt": "x" * 100_000}, "prompt: 100000 characters are too many; this model takes at most 2000."),
        (
            {"negative_prompt": "x" * 2001},
            "negative_prompt: 2001 characters are too many; this model takes at most 2000.",
        ),
        ({"prompt": None}, "prompt: null is not text."),
        ({"prompt": 5}, "prompt: 5 is not text."),
        ({"prompt": ["a"]}, "prompt: a list is not text."),
        ({"prompt": "a\0b"}, "prompt: the character NUL is not allowed."),
        ({"prompt": "\ud800"}, "prompt: it is not valid Unicode: half of a surrogate pair."),
        ({"negative_prompt": "\udfff"}, "negative_prompt: it is not valid Unicode: half of a surrogate pair."),
        ({"model_id": "\ud800"}, "model_id: it is not valid Unicode: half of a surrogate pair."),
        ({"model_id": "nope"}, 'model_id: there is no model "nope"; available: shapes.'),
        ({"model_id": ""}, 'model_id: there is no model ""; available: shapes.'),
        ({"model_id": "x" * 9999}, f'model_id: there is no model "{"x" * 64}"; available: shapes.'),
        ({"model_id": {}}, "model_id: an object is not text."),
        ({"settings": []}, "settings: a list is not a JSON object."),
        ({"settings": "fast"}, 'settings: "fast" is not a JSON object.'),
    ],
)
async def test_fields(service, fields, message):
    assert await refusal(service, GOOD | fields) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_images", "1000", "1000 is not possible; this model takes 1 to 8"),
        ("num_images", "0", "0 is not possible; this model takes 1 to 8"),
        ("num_images", "1.5", "1.5 is not a whole number"),
        ("num_images", '"many"', '"many" is not a whole number'),
        ("num_images", "true", "true and false are not numbers"),
        ("num_images", "[1]", "a list is not a whole number"),
        ("num_images", "1e999", "Infinity is not a finite number"),
        ("num_images", "9" * 400, f"the number is beyond {2**63 - 1}"),
        ("num_images", '"' + "9" * 400 + '"', f"the number is beyond {2**63 - 1}"),
        ("num_inference_steps", "0", "0 is not possible; this model takes 1 to 100"),
        ("num_inference_steps", "-3", "-3 is not possible; this model takes 1 to 100"),
        ("guidance_scale", "NaN", "NaN is not a finite number"),
        ("guidance_scale", "Infinity", "Infinity is not a finite number"),
        ("guidance_scale", "-Infinity", "-Infinity is not a finite number"),
        ("guidance_scale", '"nan"', '"nan" is not a finite number'),
        ("guidance_scale", "-0.1", "-0.1 is not possible; this model takes 0 to 20"),
        ("guidance_scale", "1e300", "1e+300 is not possible; this model takes 0 to 20"),
        ("guidance_scale", "false", "true and false are not numbers"),
        ("guidance_scale", '"high"', '"high" is not a number'),
        ("width", "63", "63 is not possible; this model takes only 64"),
        ("height", "128", "128 is not possible; this model takes only 64"),
        ("width", '"64px"', '"64px" is not a whole number'),
        ("seed", "-1", f"-1 is not possible; this model takes 0 to {2**63 - 1}"),
        ("seed", str(2**63), f"the number is beyond {2**63 - 1}"),
        ("seed", "true", "true and false are not numbers"),
        ("max_sequence_length", "256", "this model does not take it; leave it out"),
        ("clip_skip", "3", "3 is not possible; this model takes 0 to 2"),
        ("clip_skip", "-1", "-1 is not possible; this model takes 0 to 2"),
        ("clip_skip", "0.5", "0.5 is not a whole number"),
        ("deterministic", "2", "2 is not true or false"),
        ("metadata", "0", "0 is not true or false"),
    ],
)
async def test_settings(service, name, value, message):
    body = f'{{"model_id": "shapes", "prompt": "a", "settings": {{"{name}": {value}}}}}'

    assert await refusal(service, body) == f"settings.{name}: {message}."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 1000}, "settings.width: 1000 is not a multiple of 16; 992 would be right."),
        ({"width": 251}, "settings.width: 251 is not a multiple of 16; 256 would be right."),
        ({"height": 2050}, "settings.height: 2050 is not a multiple of 16; 2048 would be right."),
        ({"height": 2051}, "settings.height: 2051 is not possible; this model takes 250 to 2050."),
        (
            {"width": 2048, "height": 2048},
            "settings.width, settings.height: 2048x2048 is 4194304 pixels; this model takes at most 2097152.",
        ),
        ({"max_sequence_length": 513}, "settings.max_sequence_length: 513 is not possible; this model takes 1 to 512."),
        (
            {"scheduler": "NoScheduler"},
            'settings.scheduler: this model cannot use "NoScheduler"; '
            "it can use: DDIMScheduler, EulerDiscreteScheduler.",
        ),
        ({"step_cache": 0.4}, "settings.step_cache: 0.4 is not possible; this model takes 0 to 0.3."),
        ({"step_cache": -0.1}, "settings.step_cache: -0.1 is not possible; this model takes 0 to 0.3."),
    ],
)
async def test_settings_of_a_large_model(wide_service, settings, message):
    assert await refusal(wide_service, GOOD | {"model_id": "large", "settings": settings}) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"scheduler": "DDIMScheduler"},
            'settings.scheduler: this model cannot use "DDIMScheduler"; it has only its own; leave it out.',
        ),
        ({"step_cache": 0.1}, "settings.step_cache: this model has none; leave it out."),
        ({"clip_skip": 1}, "settings.clip_skip: this model has none; leave it out."),
    ],
)
async def test_settings_that_a_model_does_not_offer(wide_service, settings, message):
    assert await refusal(wide_service, GOOD | {"model_id": "fast", "settings": settings}) == message


async def test_steps_of_a_model_with_a_fixed_number(wide_service):
    message = await refusal(wide_service, GOOD | {"model_id": "fast", "settings": {"num_inference_steps": 20}})

    assert message == "settings.num_inference_steps: 20 is not possible; this model takes only 2."


async def test_an_unknown_model_is_told_all_models(wide_service):
    message = await refusal(wide_service, GOOD | {"model_id": "dall-e-3"})

    assert message == 'model_id: there is no model "dall-e-3"; available: large, fast.'


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 5}, 'steps: there is no such field; did you mean "settings.num_inference_steps"?'),
        (
            {"settings": {"steps": 5}},
            'settings.steps: there is no such field; did you mean "settings.num_inference_steps"?',
        ),
        ({"width": 64}, 'width: there is no such field; did you mean "settings.width"?'),
        (
            {"settings": {"cfg_scale": 5}},
            'settings.cfg_scale: there is no such field; did you mean "settings.guidance_scale"?',
        ),
        (
            {"settings": {"num_image": 5}},
            'settings.num_image: there is no such field; did you mean "settings.num_images"?',
        ),
        ({"Model": "shapes"}, 'Model: there is no such field; did you mean "model_id"?'),
        ({"zzzzzz": 1}, "zzzzzz: there is no such field."),
        ({"\ud800": 1}, 'body: the field name "\\ud800" is not valid Unicode.'),
        ({"settings": {"\ud800": 1}}, 'settings: the field name "\\ud800" is not valid Unicode.'),
        ({"y" * 9999: 1}, f"{'y' * 64}: there is no such field."),
    ],
)
async def test_unknown_fields(service, fields, message):
    assert await refusal(service, GOOD | fields) == message


async def test_several_problems_are_one_sentence(service):
    assert await refusal(service, {}) == "model_id: it is missing; prompt: it is missing."
    message = await refusal(service, GOOD | {f"zzz{number}": 1 for number in range(7)})
    assert message.endswith("zzz4: there is no such field; and 2 more.")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "body: it is missing; send a JSON object."),
        ("null", "body: it is missing; send a JSON object."),
        ("[]", "body: a list is not a JSON object."),
        ('[{"model_id": "shapes"}]', "body: a list is not a JSON object."),
        ('"text"', 'body: "text" is not a JSON object.'),
        ("5", "body: 5 is not a JSON object."),
        ("NaN", "body: NaN is not a JSON object."),
        ("{", "body: it is not valid JSON (Expecting property name enclosed in double quotes, at character 1)."),
        ("prompt=a", "body: it is not valid JSON (Expecting value, at character 0)."),
        (b'{"prompt": "\xff"}', "body: it is not valid JSON in UTF-8."),
        ("[" * 100_000, "body: it is not valid JSON in UTF-8."),
        ('{"a":' * 100_000, "body: it is not valid JSON in UTF-8."),
        ('{"seed": ' + "9" * 5000 + "}", "body: it is not valid JSON in UTF-8."),
    ],
)
async def test_bodies(service, body, message):
    assert await refusal(service, body) == message


async def test_deep_nesting_that_json_can_read_is_a_bad_field(service):
    nested = "[" * 500 + "]" * 500
    assert await refusal(service, f'{{"model_id": "shapes", "prompt": {nested}}}') == "prompt: a list is not text."


async def test_no_body_at_all(service):
    message = sentence(await service.http.post("/api/generate"), 400)

    assert message == "body: it is missing; send a JSON object."


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense", None])
async def test_json_under_another_name_is_told_the_header(service, media_type):
    headers = {"Content-Type": media_type} if media_type else {}
    response = await service.http.post("/api/generate", content=json.dumps(GOOD), headers=headers)

    assert sentence(response, 400) == "body: send it as JSON, with the header Content-Type: application/json."


class TestLargeBodies:
    SENTENCE = "The request body is larger than the 1048576 bytes that are allowed."

    async def test_announced_is_413_before_it_is_read(self, service):
        async def nothing_may_be_read():
            pytest.fail("the body was read")
            yield b""

        headers = JSON | {"Content-Length": str(50_000_000)}
        response = await service.http.post("/api/generate", content=nothing_may_be_read(), headers=headers)

        assert sentence(response, 413) == self.SENTENCE

    @pytest.mark.parametrize("announced", [None, "100", "-5", "many", "9" * 5000, "²"])
    async def test_more_than_announced_is_413_soon(self, service, announced):
        sent = 0

        async def chunks():
            nonlocal sent
            for _ in range(50):
                sent += 1_000_000
                yield b" " * 1_000_000

        headers = JSON | ({"Content-Length": announced.encode("latin-1")} if announced else {})
        response = await service.http.post("/api/generate", content=chunks(), headers=headers)

        assert sentence(response, 413) == self.SENTENCE
        assert sent <= 2_000_000

    async def test_the_limit_itself_is_allowed(self, tmp_path):
        async with api_service(tmp_path, max_body_bytes=1024) as service:
            body = json.dumps(GOOD).ljust(1024)

            assert (await service.http.post("/api/generate", content=body, headers=JSON)).status_code == 200
            response = await service.http.post("/api/generate", content=body + " ", headers=JSON)
            assert sentence(response, 413)


class TestWrongAddresses:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/api/generate", {"POST"}),
            ("POST", "/api/status/1", {"GET"}),
            ("PUT", "/api/image/1", {"GET", "HEAD", "DELETE"}),
            ("POST", "/api/get_image/1", {"GET", "HEAD"}),
            ("POST", "/health", {"GET", "HEAD"}),
            ("DELETE", "/", {"GET", "HEAD"}),
            ("POST", "/static/page.js", {"GET", "HEAD"}),
            ("POST", "/docs", {"GET", "HEAD"}),
            ("GET", "/api/jobs/1", {"DELETE"}),
        ],
    )
    async def test_the_wrong_method_is_told_the_right_ones(self, service, method, path, allowed):
        response = await service.http.request(method, path)

        assert sentence(response, 405) == "This address does not take that method."
        assert set(response.headers["Allow"].split(", ")) == allowed

    @pytest.mark.parametrize(
        "path",
        [
            "/nowhere",
            "/api",
            "/api/",
            "/api/models/",
            "/redoc",
            "/static",
            "/static/",
            "/static/nothing.js",
            "/static/..%2f..%2fpyproject.toml",
            "/static/%00",
            "/static/" + "a" * 5000,
            "/docs/",
            "/docs/redoc.standalone.js",
            "/docs/..%2f__init__.py",
            "//example.com/x",
            "/etc/passwd",
        ],
    )
    async def test_nothing_is_there(self, service, path):
        response = await service.http.get(f"http://localhost{path}")

        assert sentence(response, 404) == "There is nothing at this address."
