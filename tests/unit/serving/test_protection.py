"""Who asks: keys that are remembered, links that expire, proxies that are believed, requests that are counted."""

from __future__ import annotations

import base64

import pytest

import serve.app
from deployments.jobs.records.api_keys import NewKey, hash_of, key_id_of, make_key
from deployments.settings.protection import listens_elsewhere
from deployments.settings.service import Settings, SettingsError, load_settings
from deployments.tracker.rate_windows import RateWindow, RateWindows
from serve.launcher import launch
from serve.protection.identity import Identity
from serve.protection.key_ring import KeyRing, key_in
from serve.protection.links import Links
from serve.protection.protection import Protection
from serve.protection.trusted_proxies import TrustedProxies
from tests.support.job_trackers import job_tracker
from tests.support.ports import free_port
from tests.support.protection_stand_ins import ClockedStorage, Keys, Seconds


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def tracker(tmp_path):
    tracker = job_tracker(f"sqlite+aiosqlite:///{tmp_path}/jobs.db")
    yield tracker
    await tracker.close()


class TestKeyRing:
    async def test_asks_once_in_a_while(self, seconds):
        key = make_key()[1]
        keys = Keys(key)
        ring = KeyRing(keys, 10, seconds)
        for _ in range(5):
            assert await ring.find(key) == "the key"
        assert keys.asked == 1

    async def test_a_revoked_key_is_good_no_longer_than_that(self, seconds):
        key = make_key()[1]
        keys = Keys(key)
        ring = KeyRing(keys, 10, seconds)
        await ring.find(key)
        keys.known.clear()
        seconds.now += 9.9
        assert await ring.find(key) == "the key"
        seconds.now += 0.1
        assert await ring.find(key) is None

    async def test_wrong_keys_are_remembered_too(self, seconds):
        keys = Keys(make_key()[1])
        ring, wrong = KeyRing(keys, 10, seconds), make_key()[1]
        for _ in range(3):
            assert await ring.find(wrong) is None
        assert keys.asked == 1

    async def test_nobody_is_asked_about_what_cannot_be_a_key(self, seconds):
        keys = Keys(make_key()[1])
        for text in ("", "sk-123", "ci_0123456789ab_zz"):
            assert await KeyRing(keys, 10, seconds).find(text) is None
        assert keys.asked == 0

    async def test_one_letter_more_is_another_key(self, seconds):
        key = make_key()[1]
        ring = KeyRing(Keys(key), 10, seconds)
        await ring.find(key)
        for wrong in (key + "0", key[:-1], key.upper()):
            assert await ring.find(wrong) is None


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer ci_1"}, "ci_1"),
        ({"authorization": "bearer  ci_1 "}, "ci_1"),
        ({"x-api-key": "ci_1"}, "ci_1"),
        ({"authorization": basic("anybody:ci_1")}, "ci_1"),
        ({"authorization": basic(":ci:1")}, "ci:1"),
        ({"authorization": basic("ci_1")}, ""),
        ({"authorization": "Basic ?"}, ""),
        ({"authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, ""),
        ({"authorization": "Digest ci_1"}, None),
        ({"authorization": "Digest ci_1", "x-api-key": "ci_2"}, "ci_2"),
        ({"authorization": "Bearer ci_1", "x-api-key": "ci_2"}, "ci_1"),
    ],
)
def test_a_key_is_found_where_clients_send_it(headers, key):
    assert key_in(headers) == key


class TestLinks:
    @staticmethod
    def parts(link) -> tuple[str, dict[str, str]]:
        path, _, query = link.path.partition("?")
        return path, dict(part.split("=") for part in query.split("&"))

    def links(self, tracker, seconds, **auth) -> Links:
        return Links(Settings(auth={"mode": "keys", "link_seconds": 60, **auth}).auth, tracker, seconds)

    async def test_open_until_they_expire(self, tracker, seconds):
        links = self.links(tracker, seconds)
        link = await links.link_to("/api/image/1")
        path, query = self.parts(link)

        assert path == "/api/image/1"
        assert link.expires_at.timestamp() == seconds.now + 60
        assert await links.is_valid(path, query)
        seconds.now += 59
        assert await links.is_valid(path, query)
        seconds.now += 1
        assert not await links.is_valid(path, query)

    async def test_changed_ones_open_nothing(self, tracker, seconds):
        links = self.links(tracker, seconds)
        path, query = self.parts(await links.link_to("/api/image/1"))

        assert not await links.is_valid("/api/image/2", query)
        for name, value in (
            ("expires", str(int(query["expires"]) + 1)),
            ("expires", ""),
            ("expires", "-1"),
            ("expires", "\u0661"),
            ("expires", "9" * 400),
            ("signature", ""),
            ("signature", "0" * 64),
            ("signature", "é"),
        ):
            assert not await links.is_valid(path, query | {name: value})
        assert not await links.is_valid(path, {"signature": query["signature"]})

    async def test_every_replica_opens_what_another_one_signed(self, tracker, seconds):
        path, query = self.parts(await self.links(tracker, seconds).link_to("/api/image/1"))

        assert await self.links(tracker, seconds).is_valid(path, query)
        assert not await self.links(tracker, seconds, signing_secret="another").is_valid(path, query)

    async def test_are_plain_where_no_keys_are_asked_for(self, tracker, seconds):
        link = await self.links(tracker, seconds, mode="off").link_to("/api/image/1")

        assert (link.path, link.expires_at) == ("/api/image/1", None)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("9.9.9.9", "", "9.9.9.9"),
        ("9.9.9.9", "1.2.3.4", "9.9.9.9"),  # anybody can write that
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the first one is what the client itself had written
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4:80", "10.0.0.1"),
        ("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("testclient", "1.2.3.4", "testclient"),
        ("", "1.2.3.4", ""),
    ],
)
def test_addresses_are_believed_of_trusted_proxies_only(peer, forwarded_for, client):
    assert TrustedProxies(["10.0.0.0/8", "fd00::1"]).client_of(peer, forwarded_for) == client


def test_ipv6_clients_are_counted_by_their_network():
    def key(address):
        return Identity(address, address, frozenset()).rate_key

    assert key("2001:db8::1") == key("2001:db8::ffff:1") == "address/2001:db8::/64"
    assert key("2001:db8:0:1::1") != key("2001:db8::1")
    assert key("1.2.3.4") != key("1.2.3.5")


class TestRateWindows:
    async def test_count_down_refuse_and_begin_anew(self, seconds):
        windows = RateWindows(ClockedStorage(seconds), seconds)

        assert await windows.spend("ann", 2) == RateWindow(2, 1, 60)
        seconds.now += 20
        assert await windows.spend("ann", 2) == RateWindow(2, 0, 40)
        assert await windows.spend("ann", 2) == RateWindow(2, 0, 40, exceeded=True)
        seconds.now += 39.5
        assert await windows.spend("ann", 2) == RateWindow(2, 0, 1, exceeded=True)
        seconds.now += 0.5
        assert await windows.spend("ann", 2) == RateWindow(2, 1, 60)

    async def test_are_one_for_each(self, seconds):
        windows = RateWindows(ClockedStorage(seconds), seconds)
        await windows.spend("ann", 1)

        assert (await windows.spend("ann", 1)).exceeded
        assert not (await windows.spend("bob", 1)).exceeded

    async def test_in_the_trackers_memory_are_shared_by_all_who_ask_it(self, tracker):
        counted = [await tracker.spend_request("ann", 2) for _ in range(3)]

        assert [(window.remaining, window.exceeded) for window in counted] == [(1, False), (0, False), (0, True)]

    async def test_the_tracker_counts_while_redis_is_away(self, tracker, caplog):
        url = f"redis://:hunter2@127.0.0.1:{free_port()}"
        protection = Protection(Settings(limits={"submits_per_minute": 2, "redis_url": url}), tracker)
        counted = [await protection.rate_limits.spend_submit(protection.anybody("1.2.3.4")) for _ in range(3)]

        assert [window.exceeded for window in counted] == [False, False, True]
        assert "limits.redis_url cannot be used" in caplog.text
        assert "hunter2" not in caplog.text

    def test_a_redis_url_that_cannot_be_used_is_told_at_the_start_without_its_password(self):
        settings = Settings(limits={"redis_url": "redis://user:hunter2@host:port"})
        with pytest.raises(SettingsError, match=r"^limits\.redis_url \(CYBERIMAGE_LIMITS__REDIS_URL\): ") as told:
            Protection(settings, None)
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("host", "elsewhere"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("localhost", False),
        (None, False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.1.5", True),
        ("example.com", True),
        ("", True),
    ],
)
def test_listening_for_others_needs_keys_or_plain_words(host, elsewhere):
    assert listens_elsewhere(host) is elsewhere
    Settings(auth={"mode": "keys"}).require_protection(host)
    Settings(auth={"allow_open": True}).require_protection(host)
    if elsewhere:
        with pytest.raises(SettingsError, match=r"auth\.mode.*keys.*auth\.allow_open") as told:
            Settings().require_protection(host)
        assert "\n" not in str(told.value)
    else:
        Settings().require_protection(host)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"trusted_proxies": ["proxy"]}, "'proxy' is no address and no network such as 10.0.0.0/8"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "'10.0.0.1/8' is no address and no network such as 10.0.0.0/8"),
        ({"cors": {"allowed_origins": ["example.com"]}}, "'example.com' is no origin such as https://example.com"),
        ({"cors": {"allowed_origins": ["https://a/b"]}}, "'https://a/b' is no origin such as https://example.com"),
        ({"auth": {"mode": "yes"}}, "auth.mode (CYBERIMAGE_AUTH__MODE): "),
        ({"limits": {"redis_url": "memory://hunter2"}}, "limits.redis_url (CYBERIMAGE_LIMITS__REDIS_URL): "),
    ],
)
def test_settings_that_cannot_be_are_told(args, told):
    with pytest.raises(SettingsError) as refusal:
        load_settings(args)
    assert told in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_secrets_are_not_shown():
    settings = Settings(auth={"signing_secret": "hunter2"}, limits={"redis_url": "redis://:hunter2@host"})

    assert "hunter2" not in repr(settings)


async def test_a_key_of_the_store_is_found_through_the_tracker(tracker):
    key_id, key = make_key()
    await tracker.keys.add(key_id, hash_of(key), NewKey(name="ann"), "root")

    assert (await tracker.keys.check(key_id_of(key), hash_of(key))).name == "ann"
    assert [found.id for found in await tracker.keys.list()] == [key_id]
    assert (await tracker.keys.revoke(key_id, "root")).revoked_at is not None
    assert await tracker.keys.check(key_id, hash_of(key)) is None


def test_the_launcher_does_not_start_what_others_could_use(tmp_path, capsys):
    assert launch("0.0.0.0", free_port(), data_dir=tmp_path) == 1
    assert "CyberImage cannot start: auth.mode (CYBERIMAGE_AUTH__MODE): other machines" in capsys.readouterr().out


def test_the_application_is_not_built_for_others_to_use(tmp_path, monkeypatch):
    monkeypatch.setattr(serve.app, "listening_host", lambda: "0.0.0.0")
    with pytest.raises(SettingsError, match=r"other machines can reach 0\.0\.0\.0"):
        serve.app.build_app({"data_dir": str(tmp_path)})
    assert serve.app.build_app({"data_dir": str(tmp_path), "auth": {"mode": "keys"}})
