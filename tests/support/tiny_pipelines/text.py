"""Tokenizers with a token for every byte, and language models of any class with a few thousand random weights."""

import re
import sys
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BatchFeature, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Model
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

TEXT_WIDTH = 32
TEXT_TOKENS = 77
_HEADS = 2
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
_SPECIAL += ["<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
_IMAGE_PAD = "<|image_pad|>"
_PATCHES = 56 * 56
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part.get('text', '') }}{% endfor %}{% endif %}\n{% endfor %}"
)
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = {token: index for index, token in enumerate([*_SPECIAL, *_ALPHABET])}


def tiny_tokenizer(max_length: int = TEXT_TOKENS) -> PreTrainedTokenizerFast:
    """A token for every byte, one for the start and one for the end, and a template for chats."""
    tokenizer = Tokenizer(models.BPE(vocab=VOCABULARY, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=_SPECIAL[4:],
        model_max_length=max_length,
        chat_template=CHAT,
        padding_side="right",
    )


class TinyProcessor:
    """Stands in for the processor of a model that sees: pictures become patches as Qwen's models have them."""

    def __init__(self) -> None:
        self.tokenizer = tiny_tokenizer()
        self.image_processor = Qwen2VLImageProcessorPil(min_pixels=_PATCHES, max_pixels=_PATCHES)
        self.image_token = "<image>"
        self.image_token_id = VOCABULARY[_IMAGE_PAD]

    def apply_chat_template(self, *arguments: Any, **options: Any) -> Any:
        """As the tokenizer does it."""
        return self.tokenizer.apply_chat_template(*arguments, **options)

    def decode(self, *arguments: Any, **options: Any) -> Any:
        """As the tokenizer does it."""
        return self.tokenizer.decode(*arguments, **options)

    batch_decode = decode

    def __call__(self, *, text: Any, images: Any = None, videos: Any = None, **options: Any) -> Any:
        """The tokens of the words, and of the patches of pictures that they have places for.

        Raises:
            ValueError: If there are videos.
        """
        if videos is not None:
            raise ValueError("The tiny processor sees pictures, but no videos.")
        if images is None:
            return self.tokenizer(text, **options)
        patches = self.image_processor(images=images, return_tensors="pt")
        counts = iter((patches["image_grid_thw"].prod(dim=1) // self.image_processor.merge_size**2).tolist())
        texts = [text] if isinstance(text, str) else text
        words = [re.sub(re.escape(_IMAGE_PAD), lambda _: _IMAGE_PAD * next(counts, 1), each) for each in texts]
        tokens = self.tokenizer(words, **options)
        kinds = (tokens["input_ids"] == self.image_token_id).long()
        return BatchFeature({**tokens, **patches, "mm_token_type_ids": kinds})


# By the name of a configuration's field, wherever it stands in it.
_SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": TEXT_WIDTH,
    "d_model": TEXT_WIDTH,
    "d_kv": TEXT_WIDTH // _HEADS,
    "d_ff": TEXT_WIDTH,
    "n_embd": TEXT_WIDTH,
    "n_head": _HEADS,
    "n_layer": 2,
    "intermediate_size": TEXT_WIDTH,
    "projection_dim": TEXT_WIDTH,
    "out_hidden_size": TEXT_WIDTH,
    "encoder_hidden_size": TEXT_WIDTH,
    "transformerDimensions": TEXT_WIDTH,
    "numDims": TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "depth": 2,
    "num_attention_heads": _HEADS,
    "num_heads": _HEADS,
    "num_key_value_heads": _HEADS,
    "num_global_key_value_heads": _HEADS,
    "head_dim": TEXT_WIDTH // _HEADS,
    "global_head_dim": TEXT_WIDTH // _HEADS,
    "query_pre_attn_scalar": TEXT_WIDTH // _HEADS,
    "mrope_section": [2, 3, 3],
    "embed_dim": TEXT_WIDTH,
    "num_experts": 2,
    "num_local_experts": 2,
    "vocab_size_per_layer_input": 64,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "deepstack_visual_indexes": [0, 1],
    "fullatt_block_indexes": [1],
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
    "decoder_start_token_id": 0,
    "image_token_id": VOCABULARY["<|image_pad|>"],
    "image_token_index": VOCABULARY["<image>"],
    "video_token_id": VOCABULARY["<|video_pad|>"],
    "vision_start_token_id": VOCABULARY["<|vision_start|>"],
    "vision_end_token_id": VOCABULARY["<|vision_end|>"],
    "image_size": 16,
    "num_position_embeddings": 16,
    "partial_rotary_factor": 1.0,
    "attention_dropout": 0.0,
    "layer_types": None,
    "mlp_only_layers": [],
}
_FAMILY_SIZES: dict[str, dict[str, Any]] = {
    "clip": {"patch_size": 8, "max_position_embeddings": TEXT_TOKENS},
    "siglip": {"patch_size": 8, "max_position_embeddings": 64},
    "dinov2": {"patch_size": 8},
    "qwen3_vl": {"patch_size": 14},
}


def tiny_text_model(model_class: type[PreTrainedModel], **changes: Any) -> PreTrainedModel:
    """A model with random weights whose configuration is the default one with small sizes.

    Args:
        model_class: Of transformers.
        changes: Other values of the configuration's fields, wherever they stand in it.
    """
    model_class = _concrete(model_class)
    configuration_class = model_class.config_class
    family = configuration_class.model_type.removesuffix("_text_model").removesuffix("_vision_model")
    sizes = _SIZES | _FAMILY_SIZES.get(family, {}) | changes
    if "_vl" in family:
        sizes |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    fields = _shrunk(configuration_class().to_dict(), sizes)
    if "EncoderModel" in model_class.__name__ and "is_encoder_decoder" in fields:
        fields["is_encoder_decoder"] = False
    model: PreTrainedModel = model_class(configuration_class(**fields)).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def _concrete(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Some pipelines name only the base class of what they take."""
    if model_class is PreTrainedModel:
        return Qwen3Model
    name = model_class.__name__.replace("PreTrainedModel", "Model")
    return getattr(sys.modules[model_class.__module__], name, model_class)


def _shrunk(fields: dict[str, Any], sizes: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for name, value in fields.items():
        if name in sizes:
            small[name] = sizes[name]
        elif isinstance(value, dict):
            # The rotary embeddings of pictures are of another kind than those of text.
            inner = {key: size for key, size in sizes.items() if key != "rope_parameters" or "vision" not in name}
            small[name] = _shrunk(value, inner)
        else:
            small[name] = value
    return small
