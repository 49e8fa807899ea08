from functools import cache

import pytest
from transformers import CLIPTokenizer

from models.training.language import held_out_captions, vocabulary
from models.training.tokenizer import MAX_TOKENS, build_tokenizer, tokenize


@cache
def tokenizer() -> CLIPTokenizer:
    return build_tokenizer()


def words_as_tokens(text: str) -> list[str]:
    return [token.removesuffix("</w>") for token in tokenizer().tokenize(text)]


def test_every_word_of_the_language_is_one_token() -> None:
    ids = [tokenizer()(word, add_special_tokens=False).input_ids for word in vocabulary()]

    assert all(len(tokens) == 1 for tokens in ids)
    assert len({tokens[0] for tokens in ids}) == len(vocabulary())


def test_every_held_out_caption_is_made_of_words_and_fits() -> None:
    words = {*vocabulary(), ","}
    for _, caption in held_out_captions():
        tokens = words_as_tokens(caption)
        assert set(tokens) <= words
        assert len(tokens) + 2 <= MAX_TOKENS


def test_capitals_and_spaces_make_no_difference() -> None:
    assert words_as_tokens("A  Large RED circle,On a\tBlue background") == [
        *("a", "large", "red", "circle", ",", "on", "a", "blue", "background")
    ]


def test_comma_is_a_token_of_its_own() -> None:
    assert words_as_tokens("red,circle , blue,") == ["red", ",", "circle", ",", "blue", ","]


@pytest.mark.parametrize(
    "text", ["zebra", "über", "a 🦄 on a 🌈", "红色的圆", "<|endoftext|>", "red\x00circle", "'s 12.5%!?", "e\u0301"]
)
def test_anything_can_be_written(text: str) -> None:
    ids = tokenize(tokenizer(), [text])[0].tolist()

    assert len(ids) == MAX_TOKENS
    assert ids[0] == tokenizer().bos_token_id
    assert tokenizer().eos_token_id in ids
    assert 0 <= min(ids) <= max(ids) < len(tokenizer())


def test_unknown_words_are_spelled_without_harm_to_known_ones() -> None:
    tokens = words_as_tokens("a red zebra on a blue background")

    assert tokens[:2] == ["a", "red"]
    assert tokens[-4:] == ["on", "a", "blue", "background"]
    assert "".join(tokens[2:-4]) == "zebra"


@pytest.mark.parametrize("text", ["red " * 500, "🦄" * 500, "qwx" * 500])
def test_long_text_is_cut_to_forty_tokens(text: str) -> None:
    ids = tokenize(tokenizer(), [text])[0].tolist()

    assert len(ids) == MAX_TOKENS == 40
    assert ids[-1] == tokenizer().eos_token_id


def test_nothing_is_all_padding() -> None:
    ids = tokenize(tokenizer(), [""])[0].tolist()

    assert ids == [tokenizer().bos_token_id] + [tokenizer().eos_token_id] * (MAX_TOKENS - 1)


def test_tokenizer_is_the_same_each_time() -> None:
    assert build_tokenizer().get_vocab() == tokenizer().get_vocab()
