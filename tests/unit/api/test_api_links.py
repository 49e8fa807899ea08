"""Links that open one image without a key."""

from __future__ import annotations

from deployments.settings.service import Settings
from serve.protection.links import Links
from tests.support.api_service import api_service, sentence
from tests.support.protected_service import NOBODY


class TestLinks:
    async def test_open_one_image_without_a_key(self, protected):
        http, ann, bob = protected.service.http, await protected.key("ann"), await protected.key("bob")
        _, image_id = await protected.finished_job(ann)
        answer = await http.get(f"/api/image/{image_id}/link", headers=ann)
        url = answer.json()["url"]

        assert url.startswith(f"http://localhost/api/image/{image_id}?expires=")
        for method in ("GET", "HEAD"):
            assert (await http.request(method, url)).status_code == 200
            assert (await http.request(method, url, headers=bob)).status_code == 200
        assert sentence(await http.delete(url), 401)
        assert sentence(await http.get(url.replace(image_id, NOBODY)), 403)
        assert sentence(await http.get(url.replace("/api/image/", "/api/get_image/")), 403)
        assert sentence(await http.get(url.replace("expires=", "expires=1")), 403)
        message = sentence(await http.get(url[:-1] + ("0" if url[-1] != "0" else "1")), 403)
        assert message == "The link has expired or was changed; ask for a new one."

    async def test_expire(self, protected):
        _, image_id = await protected.finished_job(await protected.key("ann"))
        settings = Settings(auth={"mode": "keys", "link_seconds": 60}).auth
        old = Links(settings, protected.service.tracker, clock=lambda: 1_000_000_000)
        link = await old.link_to(f"/api/image/{image_id}")

        assert sentence(await protected.service.http.get(link.path), 403)

    async def test_that_are_no_good_do_no_harm_beside_a_key(self, protected):
        ann = await protected.key("ann")
        _, image_id = await protected.finished_job(ann)
        response = await protected.service.http.get(f"/api/image/{image_id}?expires=1&signature=0", headers=ann)

        assert response.status_code == 200

    async def test_know_the_proxy_in_front(self, tmp_path):
        async with api_service(tmp_path, trusted_proxies=["10.0.0.0/8"], allowed_hosts=["pictures.example"]) as service:
            image, _ = await service.make_image()
            headers = {"X-Forwarded-Proto": "https", "Host": "pictures.example"}
            answer = await service.http.get(f"/api/image/{image.id}/link", headers=headers)

        assert answer.json() == {"url": f"https://pictures.example/api/image/{image.id}", "expires_at": None}
