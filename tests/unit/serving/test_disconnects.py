"""A client that leaves is no error of the service, however Ray Serve reports it."""

from __future__ import annotations

import logging

import pytest
from ray.exceptions import TaskCancelledError
from starlette.requests import Request

from serve.http.disconnects import Disconnects
from serve.http.middleware import RequestHeaders, UnexpectedErrors


@pytest.mark.parametrize("outcome", [TaskCancelledError(), {"type": "http.disconnect"}])
async def test_it_is_neither_answered_nor_logged_as_an_error(outcome, caplog):
    async def app(scope, receive, send):
        await Request(scope, receive).body()

    async def receive():
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def send(message):
        raise AssertionError(message)

    caplog.set_level(logging.WARNING)
    scope = {"type": "http", "method": "POST", "path": "/api/inputs", "headers": [], "state": {}}
    await Disconnects(RequestHeaders(UnexpectedErrors(app)))(scope, receive, send)

    assert caplog.records == []
