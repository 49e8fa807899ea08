"""Stage two: a text encoder that has read a caption once its end is reached."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.training.language import COLOURS, PLACES, SHAPES, SIZES, Scene, split_scenes, training_caption
from models.training.stage import Stage
from models.training.tokenizer import MAX_TOKENS, tokenize

TEXT_WIDTH = 128
_BATCH = 128
_ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "background": COLOURS, "size": SIZES, "place": PLACES}


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Build an untrained text encoder of three layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Reader(torch.nn.Module):
    """A text encoder, and a linear layer that names the scene's attributes. Only the encoder is kept.

    A caption that leaves an attribute open teaches how likely each of its values is, so *red* alone is not the same as
    *red circle*.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(tokenizer)
        self.names = torch.nn.Linear(TEXT_WIDTH, sum(map(len, _ATTRIBUTES.values())))
        self._end = tokenizer.eos_token_id

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores of every value of every attribute at the caption's end, and at one place of the padding after it.

        Args:
            tokens: Ids of shape (captions, 40).

        Returns:
            Scores of shape (2, captions, values).
        """
        hidden = self.text_encoder(tokens).last_hidden_state
        first_end = (tokens == self._end).int().argmax(dim=1)
        padding = first_end + (torch.rand(len(tokens)) * (MAX_TOKENS - first_end)).long()
        rows = torch.arange(len(tokens))
        return torch.stack([self.names(hidden[rows, first_end]), self.names(hidden[rows, padding])])


def train_text_encoder(checkpoint: Path, steps: int, seed: int, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Train the text encoder to recognise shape, colours, size and place in captions of the training scenes."""
    torch.manual_seed(seed)
    scenes, _ = split_scenes()
    reader = Reader(tokenizer).train()

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        chance = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
        chosen = chance.choices(scenes, k=_BATCH)
        captions = [training_caption(scene, chance) for scene in chosen]
        return reading_loss(reader(tokenize(tokenizer, captions)), chosen)

    stage = Stage(checkpoint, steps, learning_rate=1e-3, decay_from=0.3, seed=seed)
    stage.run({"reader": reader}, list(reader.parameters()), loss_of_step)
    return reader.text_encoder.eval()


def reading_loss(scores: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """The mean cross-entropy over attributes.

    Args:
        scores: Of shape (2, scenes, values), see :class:`Reader`.
        scenes: What the captions say.
    """
    losses = []
    parts = scores.split([len(values) for values in _ATTRIBUTES.values()], dim=-1)
    for part, (name, values) in zip(parts, _ATTRIBUTES.items(), strict=True):
        right = torch.tensor([values.index(getattr(scene, name)) for scene in scenes])
        losses.append(cross_entropy(part.flatten(0, 1), right.repeat(len(part))))
    return torch.stack(losses).mean()
