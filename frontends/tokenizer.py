"""Text to tokens and back, for `tokenizer.json` and for SentencePiece's `tokenizer.model`."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sterna.frontends.errors import TokenizerError

REPLACEMENT = "\ufffd"
"""What decoders put in place of bytes that are not, or not yet, a UTF-8 character."""


class Tokenizer:
    """A vocabulary with its encoder and decoder; no token is added to what the text says."""

    def __init__(
        self,
        vocab_size: int,
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
    ) -> None:
        self.vocab_size = vocab_size
        self._encode = encode
        self._decode = decode

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads `tokenizer.json`, or else `tokenizer.model`, of a checkpoint directory."""
        directory = Path(path)
        if (directory / "tokenizer.json").is_file():
            return _load_json(directory / "tokenizer.json")
        if (directory / "tokenizer.model").is_file():
            return _load_sentencepiece(directory / "tokenizer.model")
        raise TokenizerError(f"{directory}: neither tokenizer.json nor tokenizer.model is there")

    def encode(self, text: str) -> list[int]:
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Special tokens, and ids beyond the vocabulary, decode to nothing."""
        return self._decode([i for i in ids if 0 <= i < self.vocab_size])

    def stream(self) -> "TokenStream":
        return TokenStream(self)


class TokenStream:
    """Decodes tokens as they arrive: the pieces of a text together are what decoding it at once gives.

    A piece never ends inside a character: bytes of one that is not complete wait for the next token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._emitted = 0

    def push(self, token: int) -> str:
        """The text that this token completes, which may be none."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        whole = text.rstrip(REPLACEMENT)
        piece = whole[self._emitted :]
        self._emitted = max(self._emitted, len(whole))
        if piece and len(whole) == len(text):
            self._keep_context()
        return piece

    def flush(self) -> str:
        """What still waits, at the end of the stream."""
        piece = self._tokenizer.decode(self._ids)[self._emitted :]
        self._ids, self._emitted = [], 0
        return piece

    def _keep_context(self) -> None:
        """Drops tokens that no longer matter, so that a long stream costs the same for each token.

        Some text stays before the next token, as a decoder may strip a space where text begins.
        """
        for count in range(1, len(self._ids)):
            context = self._tokenizer.decode(self._ids[-count:])
            if context.strip() and REPLACEMENT not in context:
                self._ids, self._emitted = self._ids[-count:], len(context)
                return


def _load_json(file: Path) -> Tokenizer:
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{file}: not a tokenizer: {_first_line(error)}") from error

    def encode(text: str) -> list[int]:
        try:
            return backend.encode(text, add_special_tokens=False).ids
        except Exception as error:
            raise TokenizerError(f"{file}: cannot encode this text: {_first_line(error)}") from error

    def decode(ids: list[int]) -> str:
        try:
            return backend.decode(ids, skip_special_tokens=True)
        except Exception as error:
            raise TokenizerError(f"{file}: cannot decode these tokens: {_first_line(error)}") from error

    return Tokenizer(backend.get_vocab_size(), encode, decode)


def _load_sentencepiece(file: Path) -> Tokenizer:
    try:
        sentencepiece: Any = importlib.import_module("sentencepiece")
    except ImportError as error:
        raise TokenizerError(f"{file}: needs sentencepiece: pip install 'sterna[torch]'") from error
    try:
        backend = sentencepiece.SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError, ValueError) as error:
        raise TokenizerError(f"{file}: not a SentencePiece model: {_first_line(error)}") from error
    return Tokenizer(backend.GetPieceSize(), backend.EncodeAsIds, backend.DecodeIds)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
