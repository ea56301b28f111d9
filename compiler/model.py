"""A compiled model: runs an artifact. Nothing here needs torch, nor the compiler itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from sterna.arrays import as_given, held, in_order, run_by_sample
from sterna.artifact import Artifact, ArtifactError
from sterna.dialects.errors import CompileError
from sterna.plugins import find_target
from sterna.sampling import Sampling, choose
from sterna.targets.program import InputError, Program, ProgramTensor

if TYPE_CHECKING:
    from sterna.frontends.tokenizer import Tokenizer
    from sterna.targets import Decoder, Session, Texts

Array = npt.NDArray[Any]

PROMPT_CHUNK = 256
"""Tokens of a prompt that are run at once: the logits of a long prompt would take more memory than a small model."""


class GenerationError(CompileError, ValueError):
    """A prompt or an input that the model cannot take."""


@dataclass(frozen=True)
class Generation:
    """A text that a model continued. `str()` is the prompt and what came after it."""

    prompt: str
    text: str
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    prefill_seconds: float
    decode_seconds: float

    @property
    def decode_tokens_per_second(self) -> float:
        # The first token comes out of the prefill, so n tokens take n - 1 steps.
        steps = len(self.tokens) - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else 0.0

    @property
    def prefill_tokens_per_second(self) -> float:
        return len(self.prompt_tokens) / self.prefill_seconds if self.prefill_seconds > 0 else 0.0

    def __str__(self) -> str:
        return self.prompt + self.text


def load(
    path: str | Path, *, threads: int | None = None, isa: str | None = None, verify: bool = True
) -> CompiledModel:
    """The model in an artifact. `verify=False` skips the checksums, for an artifact that was verified before."""
    return CompiledModel(Artifact.open(path, verify=verify), threads=threads, isa=isa)


class CompiledModel:
    """A program on a target with its weights; states start at zero at every call that does not give them."""

    def __init__(
        self, artifact: Artifact, *, threads: int | None = None, isa: str | None = None, owner: object = None
    ) -> None:
        self.artifact = artifact
        self._owner = owner  # a temporary folder lives as long as the model that runs from it
        self.program = _program(artifact)
        weights = artifact.map_weights(self.program.weights_bytes)
        target = find_target(artifact.manifest.target)
        try:
            self._executable = target.load(
                artifact.kernels(), self.program, weights, threads=threads, isa=isa
            )
        except MemoryError:
            needed = self.program.memory_bytes
            raise ArtifactError(
                f"{artifact.path}: the program takes {needed} bytes of memory, and there is less"
            ) from None

    @property
    def isa(self) -> str:
        return self._executable.isa

    @property
    def threads(self) -> int:
        return self._executable.threads

    @property
    def stages(self) -> tuple[str, ...]:
        return self.artifact.stages()

    def ir(self, stage: str) -> str:
        """The program's text at a stage."""
        return self.artifact.ir(stage)

    def _repr_html_(self) -> str:
        """What a notebook shows of the model: the inspector on the stages that its artifact keeps."""
        from sterna.inspector.stages import artifact_html

        return artifact_html(self.artifact)

    def save(self, path: str | Path) -> None:
        """Copies the artifact to `path`, in place of an artifact that is there."""
        from sterna.artifact_writer import copy_artifact

        copy_artifact(self.artifact.path, Path(path))

    @property
    def inputs(self) -> tuple[ProgramTensor, ...]:
        """What a caller gives, states left out: names, shapes (-1 is any number of rows), types."""
        return tuple(tensor for tensor in self.program.inputs if not tensor.is_state)

    @property
    def outputs(self) -> tuple[ProgramTensor, ...]:
        return tuple(tensor for tensor in self.program.outputs if not tensor.is_state)

    @property
    def has_tokenizer(self) -> bool:
        """Whether texts are what it takes."""
        return any(name.startswith("tokenizer.") for name in self.artifact.manifest.files)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Runs on arrays by position or name, states at zero: one array, or a tuple of the outputs."""
        outputs, _ = self.step(*in_order(self.inputs, inputs, named))
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Array]:
        """The outputs by name, of inputs by name; states at zero."""
        outputs, _ = self.step(*in_order(self.inputs, (), inputs))
        return {tensor.name: array for tensor, array in zip(self.outputs, outputs, strict=True)}

    def step(
        self, *inputs: Any, states: Sequence[Array] | None = None
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Runs from the given states (zero if None); returns the outputs and the states after the last row."""
        given = in_order(self.inputs, inputs, {})
        arrays = [held(value, tensor) for value, tensor in zip(given, self.inputs, strict=True)]
        if any(tensor.batch_axis is not None for tensor in self.inputs):
            results = run_by_sample(self._executable.run, self.inputs, self.outputs, arrays)
        else:
            results = self._executable.run([*arrays, *(self.initial_states() if states is None else states)])
        count = len(self.outputs)
        outputs = zip(results[:count], self.outputs, strict=True)
        return tuple(as_given(array, tensor) for array, tensor in outputs), results[count:]

    def initial_states(self) -> list[Array]:
        return [np.zeros(tensor.shape, tensor.dtype) for tensor in self.program.inputs if tensor.is_state]

    def logits(self, tokens: Sequence[int] | Array) -> Array:
        """Float32 `[T, V]`: row t is what the model expects after tokens 0..t."""
        return self.run_tokens(np.asarray(tokens, np.int64).reshape(-1), self.initial_states())[0]

    def generate(
        self, prompt: str | Sequence[int], *, stream: Callable[[str], object] | None = None, **options: Any
    ) -> Generation:
        """Continues the prompt; takes the options of `stream`, and calls `stream` with each piece of text."""
        pieces = self.stream(prompt, **options)
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            if stream is not None and piece:
                stream(piece)

    def generate_texts(self, prompts: Sequence[str], **options: Any) -> list[Generation]:
        """`generate` for every prompt, with the same options and the same results: together if the target can."""
        from sterna.texts import continue_together

        make = getattr(self._executable, "texts", None)
        together: Texts | None = make(len(prompts)) if make is not None and len(prompts) > 1 else None
        if together is None:
            return [self.generate(prompt, **options) for prompt in prompts]
        return continue_together(self, together, prompts, **options)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop_at_end: bool = True,
    ) -> Generator[str, None, Generation]:
        """Yields the text as it comes, whole characters at a time; the generator's value is the `Generation`.

        `prompt` is a text, which follows the model's beginning-of-text token, or tokens, taken as they are. Stops after
        `max_new_tokens`, or at the model's end-of-text token if `stop_at_end`. See `sterna.sampling` for the rest.
        """
        sampling = Sampling(temperature, top_k, top_p, seed)
        tokenizer = self.tokenizer() if isinstance(prompt, str) else None
        start = self.prompt_tokens(prompt, tokenizer)
        text = tokenizer.stream() if tokenizer is not None else None
        clock = _Clock()
        produced: list[int] = []
        pieces: list[str] = []
        for token in self._tokens(start, sampling, max_new_tokens, stop_at_end, clock):
            produced.append(token)
            if text is not None:
                pieces.append(text.push(token))
                yield pieces[-1]
        if text is not None:
            pieces.append(text.flush())
            yield pieces[-1]
        return Generation(
            prompt=prompt if isinstance(prompt, str) else "",
            text="".join(pieces),
            prompt_tokens=tuple(start),
            tokens=tuple(produced),
            prefill_seconds=clock.prefill,
            decode_seconds=clock.decode,
        )

    def _tokens(
        self, start: Sequence[int], sampling: Sampling, limit: int, stop_at_end: bool, clock: _Clock
    ) -> Iterator[int]:
        require_count(limit)
        ends = self.special_tokens("eos_token_id") if stop_at_end else ()
        generator = sampling.generator()
        began = perf_counter()
        decoder = self._decoder()
        for first in range(0, len(start), PROMPT_CHUNK):
            decoder.feed(self.check_tokens(start[first : first + PROMPT_CHUNK]))
        clock.prefill = perf_counter() - began
        for n in range(limit):
            token = decoder.choose(sampling.temperature, sampling.top_k, sampling.top_p, generator)
            if token in ends:
                return
            yield token
            if n + 1 < limit:
                began = perf_counter()
                decoder.feed(np.array([token], np.int64))
                clock.decode += perf_counter() - began

    def check_tokens(self, tokens: Sequence[int]) -> Array:
        limit, array = self._token_input().limit, np.asarray(tokens, np.int64)
        if limit is not None and array.size and not 0 <= array.min() <= array.max() < limit:
            wrong = next(token for token in tokens if not 0 <= token < limit)
            raise InputError(
                f"input '{self._token_input().name}': expected values in [0, {limit}), found {wrong}"
            )
        return array

    def _decoder(self) -> Decoder:
        """On the device, if the target can; otherwise every step goes through `step`."""
        self._token_input()
        make = getattr(self._executable, "decoder", None)
        found: Decoder | None = make() if make is not None else None
        if found is not None:
            return found
        begin = getattr(self._executable, "session", None)
        return HostDecoder(self, None if begin is None else begin())

    def run_tokens(self, tokens: Array, states: Sequence[Array]) -> tuple[Array, tuple[Array, ...]]:
        """The states carry all that a piece must know of those before it, so that long texts run in pieces."""
        vocabulary = self.program.outputs[0].columns
        rows: list[Array] = []
        for piece in self._pieces(tokens, whole=not states):
            (logits,), states = self.step(piece, states=states)
            rows.append(logits.reshape(-1, vocabulary))
        return np.concatenate(rows), tuple(states)

    def run_tokens_in(self, session: Session, tokens: Array) -> Array:
        """The same in a session, which has the states."""
        vocabulary = self.program.outputs[0].columns
        pieces = self._pieces(tokens)
        return np.concatenate([session.run([piece])[0].reshape(-1, vocabulary) for piece in pieces])

    def _pieces(self, tokens: Array, *, whole: bool = False) -> Iterator[Array]:
        """Tokens in the shape of the input, as many at once as a call takes."""
        tensor = self._token_input()
        length = max(tokens.size, 1) if whole or self.program.in_pieces else self.program.max_rows
        for first in range(0, max(tokens.size, 1), length):
            piece = tokens[first : first + length]
            yield piece.reshape([piece.size if size == -1 else size for size in tensor.shape])

    def _token_input(self) -> ProgramTensor:
        inputs = [tensor for tensor in self.program.inputs if not tensor.is_state]
        outputs = [tensor for tensor in self.program.outputs if not tensor.is_state]
        if len(inputs) != 1 or len(outputs) != 1 or not np.issubdtype(np.dtype(inputs[0].dtype), np.integer):
            raise GenerationError(
                f"{self.artifact.path}: not a language model: it has no single input of tokens"
            )
        return inputs[0]

    def prompt_tokens(self, prompt: str | Sequence[int], tokenizer: Tokenizer | None) -> list[int]:
        """A text's tokens after the beginning-of-text token, if the model has one; given tokens as they are."""
        if tokenizer is None:
            tokens = [int(token) for token in prompt]
        else:
            # Bytes of the command line that are no characters come as lone surrogates, which no tokenizer takes.
            text = str(prompt).encode("utf-8", "replace").decode()
            tokens = [*self.special_tokens("bos_token_id")[:1], *tokenizer.encode(text)]
        if not tokens:
            raise GenerationError("the prompt is empty, and the model has no beginning-of-text token")
        if (context := self.program.context) is not None and len(tokens) > context:
            raise GenerationError(
                f"the prompt has {len(tokens)} tokens, and the model was compiled for a context of {context}: "
                f"compile it with a longer one (--context {len(tokens)})"
            )
        return tokens

    def special_tokens(self, field: str) -> tuple[int, ...]:
        value = self.artifact.config().get(field)
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        return tuple(token for token in values if isinstance(token, int))

    def tokenizer(self) -> Tokenizer:
        from sterna.frontends.tokenizer import Tokenizer

        return Tokenizer.load(self.artifact.path)


class HostDecoder:
    """`targets.Decoder` where logits are arrays of the host's, and states too unless a session keeps them."""

    def __init__(self, model: CompiledModel, session: Session | None) -> None:
        self._model, self._session = model, session
        self._states: Sequence[Array] = model.initial_states() if session is None else ()
        self._logits: Array = np.empty(0)

    def feed(self, tokens: Array) -> None:
        if self._session is not None:
            logits = self._model.run_tokens_in(self._session, tokens)
        else:
            logits, self._states = self._model.run_tokens(tokens, self._states)
        self._logits = logits[-1]

    def choose(
        self, temperature: float, top_k: int | None, top_p: float | None, generator: np.random.Generator
    ) -> int:
        return choose(self._logits, Sampling(temperature, top_k, top_p), generator)


@dataclass
class _Clock:
    """Seconds spent in the model; what the reader of the stream does in between does not count."""

    prefill: float = field(default=0.0)
    decode: float = field(default=0.0)


def _program(artifact: Artifact) -> Program:
    try:
        return Program.from_json(dict(artifact.manifest.program))
    except CompileError as error:
        raise ArtifactError(f"{artifact.path}/manifest.json: field 'program': {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{artifact.path}/manifest.json: field 'program': cannot be read: {repr(error)[:200]}"
        ) from None


def require_count(max_new_tokens: int) -> None:
    """GenerationError for a number of tokens below 0."""
    if max_new_tokens < 0:
        raise GenerationError(f"max_new_tokens: expected an integer >= 0, found {max_new_tokens}")
