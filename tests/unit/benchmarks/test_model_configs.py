import diffusers
import pytest

from tests.support.published_models import MODEL_CONFIGS, build_parts, model_index, published_models, weight_count

CLIP_L = 0.1233  # OpenAI's CLIP ViT-L/14, text half: model.safetensors has 246 MB in float16
CLIP_G = 0.695  # OpenCLIP ViT-bigG/14, text half: 1.39 GB in float16
T5_XXL = 4.762  # the encoder of T5 v1.1 XXL: 9.52 GB in 16 bits
QWEN3_4B = 4.022  # Qwen3's report, table 1: 4.0 B, the output layer tied to the embedding; 8.04 GB in bfloat16
FLUX_VAE = 0.084  # the autoencoder of FLUX.1: 168 MB in bfloat16

# In billions. Reports round; the digits after that are those of the size of the published weights, in 16 bits.
PUBLISHED = {
    # SDXL's report (arXiv 2307.01952), table 1: U-Net 2.6 B, text encoders 817 M; unet fp16 5.14 GB.
    "stable-diffusion-xl-base-1.0": {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "unet": 2.567, "vae": 0.084},
    # "12 billion parameter rectified flow transformer" (the model's card); flux1-dev.safetensors 23.8 GB.
    "FLUX.1-dev": {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL, "transformer": 11.901, "vae": FLUX_VAE},
    # As FLUX.1-dev without the embedding of its guidance; flux1-schnell.safetensors 23.8 GB.
    "FLUX.1-schnell": {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL, "transformer": 11.891, "vae": FLUX_VAE},
    # "6B" (the model's card and arXiv 2511.22699: 6.15 B); the transformer's files 12.3 GB in bfloat16.
    "Z-Image-Turbo": {"text_encoder": QWEN3_4B, "transformer": 6.155, "vae": FLUX_VAE},
    # Qwen-Image's report (arXiv 2508.02324), table 1: MMDiT 20 B, Qwen2.5-VL 7 B (8.29 B with its vision half),
    # VAE 127 M; the transformer's files 40.9 GB.
    "Qwen-Image": {"text_encoder": 8.292, "transformer": 20.43, "vae": 0.127},
    # "2.5 billion parameters" (Stability's announcement); the transformer's file 4.94 GB, its table of positions in it.
    "stable-diffusion-3.5-medium": {
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_G,
        "text_encoder_3": T5_XXL,
        "transformer": 2.470,
        "vae": FLUX_VAE,
    },
    # SANA's report (arXiv 2410.10629), table 1: 1.6 B, DC-AE F32C32; Gemma 2 report, table 2: 2.6 B.
    "Sana_Sprint_1.6B_1024px": {"text_encoder": 2.614, "transformer": 1.610, "vae": 0.312},
    # "4 billion parameter" (the model's card); flux-2-klein-4b.safetensors 7.75 GB.
    "FLUX.2-klein-4B": {"text_encoder": QWEN3_4B, "transformer": 3.876, "vae": FLUX_VAE},
}


def test_every_folder_has_a_published_number() -> None:
    assert set(published_models()) == set(PUBLISHED)


@pytest.mark.parametrize("name", published_models())
def test_parts_have_the_published_number_of_parameters(name: str) -> None:
    counted = {part: weight_count(module) / 1e9 for part, module in build_parts(name).items()}

    assert counted == pytest.approx(PUBLISHED[name], rel=0.005)


@pytest.mark.parametrize("name", published_models())
def test_folder_is_what_the_pipeline_wants(name: str) -> None:
    index = model_index(name)
    pipeline = getattr(diffusers, index["_class_name"])
    scheduler = getattr(diffusers, index["scheduler"][1])
    parts, options = (set(names) for names in pipeline._get_signature_keys(pipeline))

    assert parts - set(pipeline._optional_components) <= set(index)
    assert {key for key in index if not key.startswith("_")} <= parts | options
    assert scheduler.from_pretrained(MODEL_CONFIGS / name / "scheduler").config
    assert not [path for path in (MODEL_CONFIGS / name).rglob("*") if path.is_file() and path.suffix != ".json"]
