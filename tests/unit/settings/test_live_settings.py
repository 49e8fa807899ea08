"""What an ingress replica takes over from another user_config, and that a slip of the pen ends nothing."""

import logging

import pytest

from deployments.settings.telemetry import LoggingSettings
from deployments.telemetry.logs import OWN_LOGGERS, use_live_log_level
from serve.reconfiguration import apply_live_settings
from tests.support.api_service import api_service

pytestmark = pytest.mark.usefixtures("own_logs")


def levels() -> set[str]:
    return {logging.getLevelName(logging.getLogger(name).level) for name in OWN_LOGGERS}


async def test_limits_change_at_once_and_back(tmp_path):
    async with api_service(tmp_path, limits={"reads_per_minute": 100}) as service:
        services = service.app.state.services

        async def limit() -> str:
            return (await service.http.get("/api/models")).headers["RateLimit-Limit"]

        assert await limit() == "100"
        await apply_live_settings(services, {"limits": {"reads_per_minute": 7}})
        assert await limit() == "7"
        await apply_live_settings(services, {})
        assert await limit() == "100"


async def test_the_log_level_changes_here_and_at_the_tracker(tmp_path):
    told = []

    class Tracker:
        async def set_log_level(self, level: str) -> None:
            told.append(level)

    async with api_service(tmp_path, tracker=Tracker(), logging={"level": "WARNING"}) as service:
        await apply_live_settings(service.app.state.services, {"log_level": "DEBUG"})
        assert levels() == {"DEBUG"}
        await apply_live_settings(service.app.state.services, {})
        assert levels() == {"WARNING"}

    assert told == ["DEBUG", "WARNING"]


async def test_what_is_not_valid_changes_nothing_and_is_said(tmp_path, caplog):
    wrong = {"log_level": "ERROR", "limits": {"reads_per_minute": 0}, "host": "0.0.0.0"}
    async with api_service(tmp_path, limits={"reads_per_minute": 100}) as service:
        before = levels()
        await apply_live_settings(service.app.state.services, wrong)
        assert (await service.http.get("/api/models")).headers["RateLimit-Limit"] == "100"
        assert levels() == before

    assert "user_config.limits.reads_per_minute: Input should be greater than or equal to 1" in caplog.text
    assert "user_config.host: Extra inputs are not permitted" in caplog.text


def test_a_replica_takes_a_level_and_nothing_else(caplog):
    settings = LoggingSettings(level="WARNING")
    use_live_log_level(settings, {"log_level": "DEBUG"})
    assert levels() == {"DEBUG"}
    use_live_log_level(settings, {"limits": {}})
    assert levels() == {"DEBUG"}
    use_live_log_level(settings, {})
    assert levels() == {"WARNING"}
    assert "user_config.limits: Extra inputs are not permitted" in caplog.text
