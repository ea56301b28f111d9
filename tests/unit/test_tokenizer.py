"""Tokens and text: round trips, and streams that never split a character."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from sterna.frontends.errors import TokenizerError
from sterna.frontends.tokenizer import Tokenizer


def write_byte_level(directory: Path) -> Path:
    """One token a byte, so that every character beyond ASCII is split."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|bos|>": 0} | {symbol: i + 1 for i, symbol in enumerate(alphabet)}
    backend = Backend(models.BPE(vocabulary, []))
    backend.add_special_tokens(["<|bos|>"])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(write_byte_level(tmp_path_factory.mktemp("tokenizer")))


@settings(deadline=None)
@given(text=st.text())
def test_a_stream_gives_the_text_in_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + stream.flush() == text


@settings(deadline=None)
@given(ids=st.lists(st.integers(-3, 300)))
def test_a_stream_of_any_tokens_gives_what_decoding_them_does(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = tokenizer.stream()
    assert "".join(stream.push(token) for token in ids) + stream.flush() == tokenizer.decode(ids)


def test_what_is_no_text_decodes_to_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([0, 31999, -1]) == ""


def test_a_long_stream_keeps_few_tokens(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    for token in tokenizer.encode("to be or not to be, é " * 50):
        stream.push(token)
        assert len(stream._ids) < 16  # pyright: ignore[reportPrivateUsage]


def test_spaces_of_sentencepiece_style_words_stay(tmp_path: Path) -> None:
    """The Llama style: the space is in the token, and is stripped where the text begins."""
    vocabulary = {"<unk>": 0, "▁to": 1, "▁be": 2, "▁": 3, "<0xC3>": 4, "<0xA9>": 5}
    backend = Backend(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    stream = Tokenizer.load(tmp_path).stream()
    assert [stream.push(i) for i in [1, 2, 3, 3, 1, 4, 5, 2]] == [
        "to",
        " be",
        " ",
        " ",
        " to",
        "",
        "é",
        " be",
    ]


def test_a_bad_tokenizer_gives_one_line(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="neither tokenizer"):
        Tokenizer.load(tmp_path)
    for content in ("", "[]", json.dumps({"model": {"type": "BPE"}})):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(TokenizerError, match=": not a tokenizer: ") as caught:
            Tokenizer.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_bad_sentencepiece_model_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match=": not a SentencePiece model: "):
        Tokenizer.load(tmp_path)
