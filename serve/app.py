"""Builds the Ray Serve application: the ingress plus one deployment for each model or pool of the catalog."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from deployments.autoscaling import DRAIN_CHECK_SECONDS, autoscaling_fields
from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.pools import Pool
from deployments.catalog.replicas import Replicas
from deployments.cluster import listening_host, require_reachable_images
from deployments.model.replica import ModelReplica
from deployments.pools.replica import PoolReplica
from deployments.private_files import keep_files_private
from deployments.settings.service import Settings, load_settings
from deployments.storage.opening import prepare_storage
from serve.ingress import Ingress

_INGRESS_CPUS = 0.1
_MOST_ONGOING_HTTP_REQUESTS = 10_000  # each stream that somebody watches is one


def build_app(args: dict[str, Any]) -> Application:
    """Build the application; ``serve_config.yaml`` names this function.

    Args:
        args: Settings, as ``deployments.settings.service.Settings`` has them.

    Raises:
        SettingsError: A setting is not valid, the service would be open to others by mistake, or the data folder or
            the image storage cannot be used.
        CatalogError: The catalog is not valid; the message names file, line and field.
    """
    keep_files_private()
    settings = load_settings(args)
    catalog = load_catalog(settings.catalog_path, os.environ)
    settings.require_protection(listening_host())
    settings.prepare_data_dir()
    require_reachable_images(settings)
    prepare_storage(settings.storage, settings.images_dir)
    models = {
        model_id: serve.deployment(**model_options(model_id, entry))(ModelReplica).bind(model_id, entry, settings)
        for model_id, entry in catalog.models.items()
        if entry.pool is None
    }
    models |= _pooled_models(catalog, settings)
    ingress = serve.deployment(
        name="Ingress",
        num_replicas=settings.ingress_replicas,
        max_ongoing_requests=_MOST_ONGOING_HTTP_REQUESTS,
        ray_actor_options={"num_cpus": _INGRESS_CPUS},
    )
    application: Application = ingress(serve.ingress()(Ingress)).bind(settings, catalog, models)
    return application


def model_options(model_id: str, entry: ModelEntry) -> dict[str, Any]:
    """A model's deployment options.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
    """
    return _options(f"model-{model_id}", entry.replicas, entry.most_ongoing_jobs)


def pool_options(name: str, pool: Pool, members: Mapping[str, ModelEntry]) -> dict[str, Any]:
    """A pool's deployment options: each of its models always has room for its jobs, whatever the others have.

    Args:
        name: The pool's name in the catalog.
        pool: What the catalog says of it.
        members: Its models, by id.
    """
    return _options(f"pool-{name}", pool.replicas, sum(entry.most_ongoing_jobs for entry in members.values()))


def _pooled_models(catalog: Catalog, settings: Settings) -> dict[str, Application]:
    """The pools' deployments, each under the ids of all its models."""
    pooled: dict[str, Application] = {}
    for name, pool in catalog.pools.items():
        members = catalog.members(name)
        if members:
            deployment = serve.deployment(**pool_options(name, pool, members))(PoolReplica)
            pooled |= dict.fromkeys(members, deployment.bind(name, pool, members, settings))
    return pooled


def _options(name: str, replicas: Replicas, most_ongoing_jobs: int) -> dict[str, Any]:
    autoscaling: dict[str, Any] = {
        "min_replicas": replicas.min,
        "max_replicas": replicas.max,
        "target_ongoing_requests": replicas.target_ongoing_requests,
        "upscale_delay_s": replicas.upscale_delay_s,
        "downscale_delay_s": replicas.downscale_delay_s,
        **autoscaling_fields(replicas.num_gpus),
    }
    if replicas.downscale_to_zero_delay_s is not None:
        autoscaling["downscale_to_zero_delay_s"] = replicas.downscale_to_zero_delay_s
    return {
        "name": name,
        "max_ongoing_requests": most_ongoing_jobs,
        "autoscaling_config": autoscaling,
        "graceful_shutdown_timeout_s": replicas.graceful_shutdown_timeout_s,
        "graceful_shutdown_wait_loop_s": DRAIN_CHECK_SECONDS,
        "ray_actor_options": {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
    }
