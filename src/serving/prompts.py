"""A prompt in one of the forms that OpenAI allows, to the ids of tokens."""

from .. import encoder
from . import fields
from .refused import Refused

FORMS = 'a string, an array of strings, an array of integers or an array of such arrays'


def each_of(prompt):
    """The prompts in what a request calls so: a list of texts, lists of ids, or None."""
    if isinstance(prompt, list) and not (prompt and all(type(each) is int for each in prompt)):
        if not prompt:
            raise Refused('prompt is an empty array; there is nothing to continue', 'prompt')
        return prompt
    return [prompt]


def ids_of(prompt, enc, hparams):
    """The ids of one prompt; that of <|endoftext|> for no text, which begins one from nothing.

    Raises Refused: it is none of the forms, cannot be written in this vocabulary, or is too long.
    """
    if isinstance(prompt, list):
        ids = _checked(prompt, enc, hparams.n_vocab)
    elif isinstance(prompt, str | None):
        ids = _encoded(prompt or '', enc, hparams.n_ctx)
    else:
        raise fields.wrong_type(prompt, 'prompt', FORMS)
    if len(ids) > hparams.n_ctx:
        raise _too_long(len(ids), hparams.n_ctx)
    return ids


def _checked(prompt, enc, n_vocab):
    if not prompt:
        raise Refused('A prompt is an empty array; it must have at least one token', 'prompt')
    for each in prompt:
        if type(each) is not int:
            raise fields.wrong_type(each, 'prompt', FORMS)
        if not 0 <= each < n_vocab or each not in enc.decoder:
            raise Refused(
                f'The prompt has the token {str(each)[:20]}; the model has 0 to {max(enc.decoder)}',
                'prompt',
                'invalid_value',
            )
    return prompt


def _encoded(text, enc, n_ctx):
    if not text:
        if encoder.END_OF_TEXT not in enc.encoder:
            raise Refused(
                'This vocabulary has no <|endoftext|> to begin a text from; give a prompt', 'prompt'
            )
        return [enc.encoder[encoder.END_OF_TEXT]]
    longest = max(map(len, enc.encoder))  # each character of a token stands for a byte
    if (least := len(text) // longest) > n_ctx:  # for certain; encoding it might take seconds
        raise _too_long(f'at least {least}', n_ctx)
    try:
        return enc.encode_to_numpy(text).tolist()
    except ValueError as error:
        raise Refused(str(error), 'prompt', 'invalid_value') from None


def _too_long(length, n_ctx):
    return Refused(
        f"This model's maximum context length is {n_ctx} tokens, and the prompt has {length}",
        'prompt',
        'context_length_exceeded',
    )
