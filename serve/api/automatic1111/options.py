"""The client's model, and the models, samplers and schedulers to choose from, in AUTOMATIC1111's form."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from serve.api.automatic1111 import examples
from serve.api.automatic1111.bodies import (
    AutoencoderItem,
    ModelItem,
    NamedItem,
    SamplerItem,
    SchedulerItem,
    UpscalerItem,
)
from serve.api.automatic1111.requests import Options, OptionsAnswer
from serve.api.automatic1111.samplers import AUTOMATIC, samplers_of, schedule_of
from serve.api.automatic1111.translation import chosen_model, known_model
from serve.api.cyberimage.examples import answer
from serve.api.cyberimage.parameters import Behind
from serve.http.access import CHANGES, READS, Who

router = APIRouter(tags=["automatic1111"], responses=examples.REFUSALS)


@router.get("/sdapi/v1/options", dependencies=[READS], responses={200: answer(examples.OPTIONS), **examples.DOWN})
async def options(behind: Behind, who: Who) -> OptionsAnswer:
    """The caller's options: the model it has chosen, the default one where it has chosen none."""
    model_id = await chosen_model(behind, who)
    return OptionsAnswer.of(model_id, behind.catalog.get(model_id))


@router.post(
    "/sdapi/v1/options",
    dependencies=[CHANGES],
    responses={200: answer({}), **examples.BAD, **examples.DOWN},
)
async def set_options(
    behind: Behind, who: Who, body: Annotated[Options, Body(examples=[examples.OPTIONS_BODY])]
) -> dict[str, str]:
    """Choose the model of the caller's requests to come: by API key, else by address. All replicas know of it."""
    if body.sd_model_checkpoint is not None:
        await behind.tracker.choose_model(who.name, known_model(behind, body.sd_model_checkpoint))
    return {}


@router.get("/sdapi/v1/sd-models", dependencies=[READS], responses={200: answer(examples.MODELS)})
async def models(behind: Behind) -> list[ModelItem]:
    """The models of the catalog."""
    return [ModelItem(title=model_id, model_name=model_id, filename=model_id) for model_id in behind.catalog.models]


@router.get(
    "/sdapi/v1/samplers",
    dependencies=[READS],
    responses={200: answer(examples.SAMPLERS), **examples.DOWN},
)
async def samplers(behind: Behind, who: Who) -> list[SamplerItem]:
    """The samplers of the caller's model; `Default` is the model's own."""
    entry = behind.catalog.get(await chosen_model(behind, who))
    return [SamplerItem(name=each.name, aliases=list(each.aliases), options={}) for each in samplers_of(entry)]


@router.get(
    "/sdapi/v1/schedulers",
    dependencies=[READS],
    responses={200: answer(examples.SCHEDULERS), **examples.DOWN},
)
async def schedulers(behind: Behind, who: Who) -> list[SchedulerItem]:
    """The noise schedule of the caller's model."""
    entry = behind.catalog.get(await chosen_model(behind, who))
    names = dict.fromkeys((AUTOMATIC, schedule_of(entry)))
    return [SchedulerItem(name=name, label=name.capitalize()) for name in names]


@router.get("/sdapi/v1/upscalers", dependencies=[READS], responses={200: answer(examples.UPSCALERS)})
async def upscalers() -> list[UpscalerItem]:
    """No upscaler but the one that does nothing."""
    return [UpscalerItem(name="None", scale=4.0)]


@router.get("/sdapi/v1/latent-upscale-modes", dependencies=[READS], responses={200: answer([])})
async def latent_upscale_modes() -> list[NamedItem]:
    """None."""
    return []


@router.get("/sdapi/v1/sd-vae", dependencies=[READS], responses={200: answer([])})
async def autoencoders() -> list[AutoencoderItem]:
    """None to choose from: each model has its own."""
    return []
