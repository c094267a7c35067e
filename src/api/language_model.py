"""A model that is ready: what gpt2.load gives."""

import dataclasses
import functools
import typing
from collections.abc import Iterator

import numpy as np

from ..command_line import flags
from ..sampling import backends, generation, sample_config


@dataclasses.dataclass(frozen=True)
class Score:
    """What a text costs a model, as `gpt2 evaluate` counts it."""

    ids: list[int]
    texts: list[str]  # of each token
    logprobs: list[float | None]  # in nats; None for the first, which nothing predicts

    loss: float  # the mean of -logprobs
    perplexity: float
    bits_per_byte: float  # which alone can be compared between vocabularies


class Token(typing.NamedTuple):
    """One of those that may come next."""

    text: str
    probability: float
    id: int


class Inside(typing.NamedTuple):
    """What happens in a model while it reads a text. The arrays are float32."""

    ids: list[int]  # of the tokens
    texts: list[str]  # of each token

    # [layer, head, dst, src]: how much each token looks at each; for each dst they are 1 together.
    attentions: np.ndarray

    # [layer + 1, sequence, features]: before each block, and behind the last. transformers'
    # output_hidden_states are the same but for the last of them, which is behind ln_f as well.
    hidden_states: np.ndarray

    # [layer + 1, sequence, n_vocab]: what would come next if the blocks behind were left out: ln_f
    # and wte on each of hidden_states. The last are the model's own.
    logits: np.ndarray


class LanguageModel:
    """Texts of one model, and what it thinks of texts.

    Attributes:
        hparams: its sizes: n_vocab and n_ctx; with TensorFlow n_embd, n_head and n_layer as well.
    """

    def __init__(self, loaded: generation.Loaded):
        self._loaded = loaded
        self.hparams = loaded.lm.hparams

    def generate(self, prompt: str | list[str] | None = None, **options: typing.Any) -> list[str]:
        """Texts that continue a prompt, or each of several; None begins a text from nothing.

        Args:
            options: those of the command `sample`: length (tokens), temperature, top_k, top_p,
                nsamples (for each prompt, 1), batch_size and seed, and the fields of
                sample_config.SampleConfig: stop, include_prefix, repetition_penalty, …

        Raises ValueError, before anything is drawn: an option that does not exist or cannot be
            that, or a prompt that is empty or has characters that the vocabulary has not.
        """
        drawing, config = _options({'nsamples': 1, **options})
        if not drawing['nsamples']:
            raise ValueError('nsamples is 0; a list has an end: it must be 1 or more')
        return list(generation.generate(self._loaded, prompt, config=config, **drawing))

    def stream(self, prompt: str | None = None, **options: typing.Any) -> Iterator[str]:
        """The pieces of one text as they are drawn; together they are what `generate` gives.

        The options are those of `generate`, but for nsamples and batch_size. Raises ValueError as
        that does, before the first piece is asked for.
        """
        drawing, config = _options(options)
        for name in ('nsamples', 'batch_size'):
            if name in drawing:
                raise ValueError(f'stream gives the pieces of one text; leave out {name}')
        return generation.stream(self._loaded, prompt, config=config, **drawing)

    def score(self, text: str) -> Score:
        """What each token of a text costs, given those before it as far as the window reaches.

        Each has half a window or more before it, where there is as much, as in `gpt2 evaluate`.
        `<|endoftext|>` in the text is the one token.

        Raises ValueError: a text of less than two tokens, or the engine is not TensorFlow.
        """
        backends.require_tensorflow(self._loaded.lm, 'score')
        from ..evaluation import evaluate

        enc = self._loaded.encoder
        ids = enc.encode_to_numpy(text)
        if len(ids) < 2:
            raise ValueError(f'{text[:40]!r} is {len(ids)} tokens; nothing predicts the first one')
        ids = ids.astype(np.int32)
        costs = evaluate.costs_of(self._loaded.lm, [ids], function=self._costs)
        numbers = evaluate.numbers_of(enc, [ids], costs)
        return Score(
            ids=ids.tolist(),
            texts=[enc.decode([i]) for i in ids.tolist()],
            logprobs=[None, *(-costs.astype(float)).tolist()],
            loss=float(numbers['loss']),
            perplexity=numbers['perplexity'],
            bits_per_byte=float(numbers['bits_per_byte']),
        )

    @functools.cached_property
    def _costs(self):  # compiled once for all texts
        from ..evaluation import likelihood

        return likelihood.compiled(self._loaded.lm)

    def next_tokens(self, prompt: str | None = None, number: int = 10) -> list[Token]:
        """The likeliest tokens to come next, the likeliest first, with their probabilities.

        Of a prompt that is longer than the model's window, the model sees the end.
        """
        sample_config.check(top_k=number)
        logits = generation.logits_after(self._loaded, prompt).astype(np.float64)
        enc = self._loaded.encoder
        logits[sample_config.without_token(enc, len(logits))] = -np.inf
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities, kind='stable')[: min(number, len(enc.decoder))].tolist()
        return [Token(self.decode([i]), float(probabilities[i]), i) for i in best]

    def inside(self, text: str) -> Inside:
        """Attention, features and the logits of each layer, for a text that fits the window.

        `<|endoftext|>` in the text is the one token. The arrays are large: for 124M and 1,024
        tokens 3.3 GB, of which 2.7 are logits.

        Raises ValueError: a text of no token, or of more than n_ctx, or the engine is not
            TensorFlow.
        """
        backends.require_tensorflow(self._loaded.lm, 'inside')
        from ..inside import every_layer

        lm, ids = self._loaded.lm, self._ids_in_window(text)
        read = list(every_layer.every_layer(lm.hparams, lm.params, np.array([ids], np.int32)))
        return Inside(
            ids=ids,
            texts=[self.decode([i]) for i in ids],
            attentions=np.concatenate([attentions for _, attentions in read[:-1]]),
            hidden_states=np.concatenate([h for h, _ in read]),
            logits=np.concatenate([every_layer.logits_of(h, lm.params) for h, _ in read]),
        )

    def embed(self, texts: str | list[str], pooling: str = 'mean') -> np.ndarray:
        """A vector for each text, [texts, n_embd] float32; for one that is no list, [n_embd].

        It is made of the features behind the last layer and ln_f, those that logits are made of.

        Args:
            texts: each of 1 to n_ctx tokens; what one gives does not depend on the others.
            pooling: 'mean' of all tokens, or 'last' token, which alone has seen the whole text.

        Raises ValueError: a text is empty or longer than the window, no such pooling, or the
            engine is not TensorFlow.
        """
        backends.require_tensorflow(self._loaded.lm, 'embed')
        from ..inside import embeddings

        if pooling not in embeddings.POOLINGS:
            known = ' or '.join(embeddings.POOLINGS)
            raise ValueError(f'pooling is {pooling!r}; it must be {known}')
        ids = [self._ids_in_window(each) for each in ([texts] if isinstance(texts, str) else texts)]
        vectors = embeddings.embeddings(self._loaded.lm, ids, pooling)
        return vectors[0] if isinstance(texts, str) else vectors

    def _ids_in_window(self, text):
        ids, n_ctx = self._loaded.encoder.encode_to_numpy(text).tolist(), self.hparams.n_ctx
        if not 1 <= len(ids) <= n_ctx:
            raise ValueError(
                f'{text[:40]!r} is {len(ids)} tokens; the window of this model has 1 to {n_ctx}'
            )
        return ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text; `<|endoftext|>` in it is ordinary text, as in OpenAI's encoder."""
        return self._loaded.encoder.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self._loaded.encoder.decode(ids)


def _options(options):
    """(those of generation.samples, a SampleConfig). Raises ValueError: one that is neither."""
    of_config = [field.name for field in dataclasses.fields(sample_config.SampleConfig)]
    flags.require_known(options, [*sample_config.OPTIONS, *of_config])
    drawing = {name: value for name, value in options.items() if name in sample_config.OPTIONS}
    config = {name: value for name, value in options.items() if name in of_config}
    return drawing, sample_config.SampleConfig(**config)
