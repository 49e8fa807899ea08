"""Which URLs may be called."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import httpx
import pytest

from deployments.settings.service import WebhookSettings
from deployments.tracker.special_networks import SPECIAL_IPV4, SPECIAL_IPV6
from deployments.tracker.webhook_urls import WebhookRefusedError, read_url, resolve

STRICT = WebhookSettings()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "http://93.184.215.14:8080/a?b=c",
        "https://[2606:2800:21f::1]/",
        "http://a.b.c.d.e",
        "http://example.com.:65535/",
        "http://under_score.example/",
        "https://bücher.example/",
    ],
)
def test_public_ones_are_taken(url):
    assert read_url(url, STRICT).host


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("example.com/hook", "not an http or https URL"),
        ("https://", "not an http or https URL"),
        ("http://host:port/", "not a URL"),
        ("https://example.com/" + "a" * 2000, "too many"),
        ("http://example.com:65536/", "65536 is not a port; a port is 1 to 65535"),
        ("http://example.com:70000/", "70000 is not a port"),
        ("http://example.com:0/", "0 is not a port"),
        ("http://example.com:-1/", "-1 is not a port"),
        ("http://93.184.215.14:99999/", "99999 is not a port"),
        ("http://a b/", "a%20b is not the name of a host; letters, digits, - and _ are possible in it"),
        ("http://a%20b/", "not the name of a host"),
        ("http://a%00b/", "not the name of a host"),
        ("http://a_b../", "not the name of a host"),
        ("http://a..b/", "not the name of a host"),
        ("http://.a/", "not the name of a host"),
        ("http://-a.example/", "not the name of a host"),
        ("http://a-.example/", "not the name of a host"),
        ("http://*.example/", "not the name of a host"),
        ("http://a,b/", "not the name of a host"),
        ("http://[fe80::1%25eth0]/", "not public"),
        ("http://" + "a" * 64 + ".example/", "not the name of a host"),
        ("http://" + ".".join(["a" * 60] * 5), "not the name of a host"),
        ("http://a\0b/", "not a URL"),
        ("http://a\nb/", "not a URL"),
        ("http://a\tb/", "not a URL"),
        ("https://example.com/\x01", "not a URL"),
        ("http://\ud800/", "not a URL"),
        ("http://xn--a/", "not a URL"),
        ("http://a\u200bb/", "not a URL"),
    ],
)
def test_others_are_told_what_would_be_right(url, reason):
    with pytest.raises(WebhookRefusedError, match=reason):
        read_url(url, STRICT)


SPECIAL = [str(ip_network(block)[-1]) for block in (*SPECIAL_IPV4, *SPECIAL_IPV6)]
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1",
    "192.88.98.1", "192.88.100.1", "192.167.1.1", "192.169.0.1", "198.17.0.1", "198.20.0.1", "223.255.255.254",
    "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::1", "2003::1", "2606:2800:21f::1",
    "2620:4f:7fff::1", "2a00:1450:4001::1", "3ffe::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_taken(address):
    assert read_url(url_of(address), STRICT)


PRIVATE = [
    *SPECIAL,
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fc00::1", "fe80::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:93.184.215.14", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1",
    "fec0::1", "3fff::1", "192.88.99.1", "192.0.0.8", "::7f00:1", "64:ff9b:1::7f00:1", "2002:5db8:d70e::1", "4000::1",
    "1fff::1", "fe00::1", "5f00::1",
]  # fmt: skip


def url_of(address: str) -> str:
    return f"http://[{address}]/hook" if ":" in address else f"http://{address}/hook"


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address):
    with pytest.raises(WebhookRefusedError, match="not public"):
        read_url(url_of(address), STRICT)

    assert read_url(url_of(address), WebhookSettings(allow_private=True))
    assert read_url(url_of(address), WebhookSettings(allowed_hosts=(httpx.URL(url_of(address)).host,)))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "db.localhost", "localhost.", "db.localhost."])
def test_this_machine_is_refused_by_its_name(host):
    with pytest.raises(WebhookRefusedError, match="not public"):
        read_url(f"http://{host}:8000/", STRICT)


async def answer_with(monkeypatch, *addresses: str) -> list[str]:
    """Have every host found at these addresses; gives the hosts that were looked up."""
    asked = []

    async def look_up(host, port, **options):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("address", PRIVATE)
async def test_names_of_such_addresses_are_refused_without_telling_them(monkeypatch, address):
    await answer_with(monkeypatch, address)
    with pytest.raises(WebhookRefusedError) as caught:
        await resolve(httpx.URL("https://hook.example/"), STRICT)
    assert address not in str(caught.value)


async def test_one_such_address_among_others_is_enough(monkeypatch):
    await answer_with(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(WebhookRefusedError):
        await resolve(httpx.URL("https://hook.example/"), STRICT)


async def test_the_address_that_was_checked_is_given(monkeypatch):
    asked = await answer_with(monkeypatch, "93.184.215.14", "93.184.215.15")
    assert await resolve(httpx.URL("https://bücher.example/"), STRICT) == "93.184.215.14"
    assert asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1"])
async def test_other_ways_to_write_this_machine_are_found_out(host):
    """The system reads them as addresses."""
    with pytest.raises(WebhookRefusedError):
        await resolve(read_url(f"http://{host}/", STRICT), STRICT)


async def test_what_cannot_be_a_name_is_refused():
    with pytest.raises(WebhookRefusedError, match="not the name of a host"):
        await resolve(httpx.URL(f"http://{'a' * 70}.example/"), STRICT)
