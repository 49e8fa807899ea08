"""What is chosen for a GPU of each size, and how it is refused."""

from typing import Any

import pytest

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Quantization
from deployments.memory_plan.choice import MemoryFit, Room, TooLargeError, choose_memory, settled
from deployments.memory_plan.plan import Choice, CountedSize, MemoryPlan, Need, QuantizedWeights, Role, Weights

GIB = 1 << 30
PIXELS = 1024 * 1024
INT8 = Quantization(method="torchao", kind="int8")


def weights(component: str, role: Role, size: float) -> Weights:
    return Weights(component=component, class_name="Any", role=role, size=round(size * GIB), layers=GIB // 4)


def need(component: str, stage: str, first: float, tile: float | None = None) -> Need:
    sizes = (
        CountedSize(pixels=PIXELS // 4, first=round(first * GIB / 4), further=round(first * GIB / 4)),
        CountedSize(pixels=PIXELS, first=round(first * GIB), further=round(first * GIB)),
    )
    return Need(component=component, stage=stage, sizes=sizes, tile=None if tile is None else round(tile * GIB))


def plan(denoiser: float = 12.0) -> MemoryPlan:
    def variant(quantization: Quantization | None, size: float) -> QuantizedWeights:
        parts = (
            weights("text_encoder", Role.TEXT_ENCODER, 8),
            weights("transformer", Role.DENOISER, size),
            weights("vae", Role.AUTOENCODER, 0.25),
        )
        return QuantizedWeights(quantization=quantization, weights=parts)

    return MemoryPlan(
        class_name="AnyPipeline",
        dtype="bfloat16",
        variants=(variant(None, denoiser), variant(INT8, denoiser / 2)),
        needs=(
            need("text_encoder", "encoding", 0.5),
            need("transformer", "denoising", 1),
            need("vae", "decoding", 4, tile=1),
        ),
    )


def chosen(gpu: float, main: float | None = None, **loading: Any) -> MemoryFit:
    entry = ModelEntry(repo="owner/name", loading=Loading(**loading))
    return choose_memory(entry, plan(), Room(round(gpu * GIB), None if main is None else round(main * GIB)))


@pytest.mark.parametrize(
    ("gpu", "choice"),
    [
        (80, Choice()),
        (25, Choice(saves_decoding=True)),  # everything fits, but no image of 2048x2048 could be decoded
        (22, Choice(saves_decoding=True)),
        (15, Choice(offload="encoders", saves_decoding=True)),
        (13.4, Choice(offload="model", saves_decoding=True)),
        (8, Choice(offload="group", saves_decoding=True)),
    ],
)
def test_is_the_fastest_that_fits(gpu: float, choice: Choice) -> None:
    assert chosen(gpu).choice == choice


def test_is_a_quantization_that_the_catalog_allows_where_main_memory_is_short() -> None:
    fit = chosen(20, main=6, may_quantize=(INT8,))

    assert fit.choice == Choice(quantization=INT8, saves_decoding=True)
    assert fit.reason.startswith("int8 (torchao), VAE slicing and tiling: one 1024x1024 image needs")


def test_what_the_catalog_says_wins() -> None:
    assert chosen(80, offload="model").choice.offload == "model"
    assert not chosen(25, vae_tiling=False).choice.saves_decoding
    with pytest.raises(TooLargeError, match=r"loading\.offload"):
        chosen(15, offload="none")
    with pytest.raises(TooLargeError):
        chosen(15, memory="manual")


def test_is_written_into_the_entry() -> None:
    entry = ModelEntry(repo="owner/name", loading=Loading(may_quantize=(INT8,)))
    found = settled(entry, Choice(offload="encoders", saves_decoding=True, quantization=INT8)).loading

    assert (found.offload, found.vae_slicing, found.vae_tiling) == ("encoders", True, True)
    assert found.quantization == INT8


def test_a_refusal_says_how_much_is_needed_and_what_would_be_right() -> None:
    with pytest.raises(TooLargeError) as caught:
        chosen(0.5)

    assert str(caught.value) == (
        "owner/name does not fit the GPU: one 1024x1024 image needs 1.5 GiB even with VAE slicing and tiling, group "
        "offload, and 512.0 MiB is free for it. Allow a quantization (loading.may_quantize), or lower "
        "size.default_width and size.default_height, or take a smaller model or a larger GPU."
    )


def test_a_refusal_for_want_of_main_memory_says_so() -> None:
    with pytest.raises(TooLargeError, match=r"main memory: 20\.2 GiB of weights wait there, and it has 4\.0 GiB"):
        chosen(8, main=4)


class TestWidths:
    def test_fewer_large_images_fit_than_small_ones(self) -> None:
        fit = chosen(80)

        assert fit.most_images(512, 512) > fit.most_images(1024, 1024) > fit.most_images(2048, 2048) >= 1
        assert fit.most_decoded(1024, 1024) < fit.most_images(1024, 1024)

    def test_slicing_lets_more_be_decoded(self) -> None:
        assert chosen(22).most_decoded(1024, 1024) > 8

    def test_one_is_tried_in_any_case(self) -> None:
        assert chosen(80).most_decoded(8192, 8192) == 1


def test_needs_grow_with_the_pixels_between_and_beyond_the_counted_sizes() -> None:
    found = need("transformer", "denoising", 1)

    assert found.bytes_for(PIXELS // 2) == GIB // 2
    assert found.bytes_for(4 * PIXELS) == 4 * GIB
    assert found.bytes_for(PIXELS, 3) == 3 * GIB
