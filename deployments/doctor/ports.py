"""Checks of the ports that the service and Ray want."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.doctor.facts.machine import Machine
from deployments.doctor.facts.ports import Port
from deployments.doctor.finding import Finding, Level


def check_ports(machine: Machine) -> Iterator[Finding]:
    """Whether the ports are free, or the service's own."""
    http, *rays = machine.ports
    yield _check_http(http)
    yield _check_rays(rays)


def _check_http(port: Port) -> Finding:
    check = "HTTP port"
    other = "PORT=8001 make run"
    if port.failure:
        return Finding(check, Level.PROBLEM, f"{port.number} cannot be used: {port.failure}.", other)
    if not port.holder:
        return Finding(check, Level.OK, f"{port.number} is free.")
    if port.is_rays:
        return Finding(check, Level.OK, f"{port.number} is in use by {port.holder}, as where the service runs.")
    return Finding(check, Level.PROBLEM, f"{port.number} is in use by {port.holder}.", other)


def _check_rays(ports: list[Port]) -> Finding:
    check = "Ray's ports"
    taken = [port for port in ports if port.holder and not port.is_rays]
    if taken:
        who = ", ".join(f"{port.number} by {port.holder}" for port in taken)
        sentence = f"In use: {who}; `cyberimage serve` takes others, `ray start --head` does not."
        return Finding(
            check,
            Level.WARNING,
            sentence,
            "ray start --head --port 6380 --dashboard-port 8266 --ray-client-server-port 0",
        )
    running = [port for port in ports if port.holder]
    if running:
        who = ", ".join(f"{port.number} by {port.holder}" for port in running)
        return Finding(check, Level.OK, f"In use by a cluster: {who}.")
    return Finding(check, Level.OK, f"{', '.join(str(port.number) for port in ports)} are free.")
