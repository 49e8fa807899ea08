"""Checks of the models that come from the hub: whether they may be read, and whether they fit on the disk."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.doctor.facts.hub import Access, Hub, Repository
from deployments.doctor.facts.machine import Volume
from deployments.doctor.finding import Finding, Level, gigabytes
from deployments.doctor.hardware import check_volume

_TOKENS = "https://huggingface.co/settings/tokens"
_ELSEWHERE = "export HF_HOME=/path/on/a/larger/disk"


def check_hub(hub: Hub) -> Iterator[Finding]:
    """Whether the hub answers, where a model is still to be downloaded."""
    absent = [each.repo for each in hub.repositories if not each.is_cached]
    if not hub.silence:
        here = f"{len(hub.repositories) - len(absent)} of {len(hub.repositories)} repositories are on this machine"
        yield Finding("hub", Level.OK, f"{hub.endpoint} answers; {here}.")
    elif absent:
        yield Finding(
            "hub",
            Level.WARNING,
            f"Not asked. {hub.silence} Not on this machine: {', '.join(absent)}.",
            "check the network and HTTPS_PROXY, or bring the hub's cache from another machine (HF_HOME)",
        )
    else:
        yield Finding("hub", Level.OK, f"Not asked. {hub.silence}")


def check_access(hub: Hub) -> Iterator[Finding]:
    """Each repository that is gated, wants a token or cannot be read."""
    for repository in hub.repositories:
        if repository.is_gated or repository.token_name or repository.access not in (Access.GRANTED, Access.NOT_ASKED):
            yield _check_access(repository)


def check_hub_disk(volume: Volume, hub: Hub) -> Iterator[Finding]:
    """Whether what is still to be downloaded fits on the disk of the hub's cache."""
    check = "disk of the models"
    missing = [each for each in hub.repositories if each.missing_bytes]
    needed = sum(each.missing_bytes or 0 for each in missing)
    if not volume.is_writable or not needed:
        if any(not each.is_cached for each in hub.repositories):
            yield check_volume(check, volume, _ELSEWHERE)
        else:
            yield Finding(check, Level.OK, f"Nothing is to be downloaded to {volume.folder}.")
        return
    parts = ", ".join(f"{each.repo} {gigabytes(each.missing_bytes or 0)}" for each in missing)
    sentence = (
        f"{gigabytes(needed)} are to be downloaded ({parts}), and {gigabytes(volume.free)} are free at {volume.folder}"
    )
    too_large = [each.repo for each in missing if (each.missing_bytes or 0) > volume.free]
    remedy = f"free some, or: {_ELSEWHERE}"
    if too_large:
        yield Finding(check, Level.PROBLEM, f"{sentence}; too few for {', '.join(too_large)}.", remedy)
    elif needed > volume.free:
        yield Finding(check, Level.WARNING, f"{sentence}; too few for all of them.", remedy)
    else:
        yield Finding(check, Level.OK, f"{sentence}.")


def _check_access(repository: Repository) -> Finding:
    repo, name = repository.repo, repository.token_name or "HF_TOKEN"
    page = f"https://huggingface.co/{repo}"
    export = f"export {name}=hf_... (a token of {_TOKENS})"
    level, remedy = Level.PROBLEM, f"accept the licence at {page}, then: {export}"
    match repository.access:
        case Access.GRANTED:
            how = "is gated, and may be read with this token" if repository.is_gated else "may be read by everybody"
            level, sentence, remedy = Level.OK, f"{repo} {how}.", ""
        case Access.NOT_ASKED if repository.has_token:
            sentence = f"{repo} has a token; whether its licence is accepted was not asked."
            level, remedy = Level.OK, ""
        case Access.NOT_ASKED if repository.is_cached:
            sentence = f"{repo} is on this machine; whether it may be read was not asked."
            level, remedy = Level.OK, ""
        case Access.NOT_ASKED:
            sentence = f"{repo} wants a token, and {name} is not set; the hub was not asked."
        case Access.GATED if repository.has_token:
            sentence = f"{repo} is gated, and its licence is not accepted by the owner of the token in {name}."
            remedy = (
                f"accept the licence at {page}; a fine-grained token needs the right to read gated repositories too"
            )
        case Access.GATED:
            sentence = f"{repo} is gated, and {name} is not set."
        case Access.UNKNOWN:
            sentence, remedy = f"The hub has no repository {repo}, or it is private.", f"mend repo, or: {export}"
        case Access.NO_REVISION:
            sentence = f"{repo} has no revision {repository.revision}."
            remedy = f"mend revision in the catalog; {page}/tree/main lists them"
        case Access.REFUSED:
            sentence, remedy = f"The hub does not accept the token in {name} for {repo}.", f"make another: {export}"
        case Access.FAILED:
            sentence, remedy = f"The hub did not answer about {repo}.", "try again later; https://status.huggingface.co"
            level = Level.WARNING
    return Finding(f"model {repository.model_id}", level, sentence, remedy)
