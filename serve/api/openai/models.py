"""The models, in OpenAI's form."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.cyberimage.examples import answer
from serve.api.cyberimage.parameters import Behind
from serve.api.openai import examples
from serve.api.openai.bodies import ModelAnswer, ModelsAnswer
from serve.api.openai.translation import known_models, model_answer
from serve.http.access import READS

router = APIRouter(tags=["openai"], dependencies=[READS])


@router.get("/v1/models", responses={200: answer(examples.MODELS), **examples.REFUSALS})
async def list_models(behind: Behind) -> ModelsAnswer:
    """The models of the catalog, and the other names that they have by `clients.model_aliases`."""
    names = [*behind.catalog.models, *behind.settings.clients.model_aliases]
    known = known_models(behind)
    return ModelsAnswer(
        data=[model_answer(behind, name) for name in dict.fromkeys(names) if known[name] in behind.catalog.models]
    )


@router.get("/v1/models/{model}", responses={200: answer(examples.MODEL)} | examples.UNKNOWN_MODEL | examples.REFUSALS)
async def get_model(behind: Behind, model: str) -> ModelAnswer:
    """A model, by any of its names."""
    return model_answer(behind, model)
