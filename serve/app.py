"""Builds the Ray Serve application: the ingress plus one deployment per model of the catalog."""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from ray.serve import Application

from deployments.backends import listening_host, require_reachable_images
from deployments.catalog import ModelEntry, load_catalog
from deployments.image_storage import prepare_storage
from deployments.model_replica import ModelReplica
from deployments.settings import load_settings
from serve.ingress import Ingress

_INGRESS_CPUS = 0.1
_MOST_ONGOING_HTTP_REQUESTS = 10_000  # each stream that somebody watches is one


def build_app(args: dict[str, Any]) -> Application:
    """Build the application; ``serve_config.yaml`` names this function.

    Args:
        args: Settings, as ``deployments.settings.Settings`` has them.

    Raises:
        SettingsError: A setting is not valid, the service would be open to others by mistake, or the data folder or
            the image storage cannot be used.
        CatalogError: The catalog is not valid; the message names file, line and field.
    """
    settings = load_settings(args)
    catalog = load_catalog(settings.catalog_path, os.environ)
    settings.require_protection(listening_host())
    settings.prepare_data_dir()
    require_reachable_images(settings)
    prepare_storage(settings)
    models = {
        model_id: serve.deployment(**model_options(model_id, entry))(ModelReplica).bind(model_id, entry, settings)
        for model_id, entry in catalog.models.items()
    }
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
    replicas = entry.replicas
    autoscaling: dict[str, Any] = {
        "min_replicas": replicas.min,
        "max_replicas": replicas.max,
        "target_ongoing_requests": replicas.target_ongoing_requests,
        "downscale_delay_s": replicas.downscale_delay_s,
    }
    if replicas.downscale_to_zero_delay_s is not None:
        autoscaling["downscale_to_zero_delay_s"] = replicas.downscale_to_zero_delay_s
    return {
        "name": f"model-{model_id}",
        "max_ongoing_requests": entry.most_ongoing_jobs,
        "autoscaling_config": autoscaling,
        "graceful_shutdown_timeout_s": replicas.graceful_shutdown_timeout_s,
        "ray_actor_options": {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
    }
