"""What the model thought of each token of a sample."""

from . import backends, generation


def require_possible(loaded, prompts, length):
    """Raise ValueError, before anything is drawn, where `of_sample` would in the end.

    Args:
        length: as in generation.samples.
    """
    backends.require_tensorflow(loaded.lm, 'logprobs')
    for prompt in prompts:
        context = generation.context_of(loaded.encoder, prompt)
        drawn = generation.length_of(loaded.lm, prompt, context, length)
        _require_in_window(loaded.lm.hparams.n_ctx, len(context) + drawn)


def _require_in_window(n_ctx, tokens):
    if tokens > n_ctx + 1:  # of the last one nothing is asked
        raise ValueError(
            f'logprobs are for texts that fit into the window of {n_ctx} tokens; this has '
            f'{tokens}. Give a smaller --length, or a shorter prompt'
        )


@backends.enough_memory()
def of_sample(loaded, sample, top):
    """The log-probability of each token, and the `top` likeliest in its place.

    Args:
        loaded: a generation.Loaded.
        sample: a generation.Sample of it.

    Returns a list of dicts: id, text, logprob (in nats, before temperature, top_k, top_p and
    controls), and top, a list of the same without top.

    Raises ValueError: the sample is longer than the model's window, or the model is LiteRT's.
    """
    backends.require_tensorflow(loaded.lm, 'logprobs')
    import tensorflow as tf  # here: it is loaded with the model, and need not be to refuse LiteRT's

    tokens = [*sample.context, *sample.ids]
    _require_in_window(loaded.lm.hparams.n_ctx, len(tokens))
    logits = loaded.lm(tf.constant([tokens[:-1]], tf.int32))['logits'][0]  # [tokens - 1, vocab]
    logs = tf.nn.log_softmax(logits[len(sample.context) - 1 :])  # [ids, vocab]
    of_ids = tf.gather(logs, sample.ids, batch_dims=1).numpy()  # [ids]
    highest, best = tf.math.top_k(logs, min(top, logs.shape[-1]))  # [ids, top], the lower id first

    def entry(token, log):
        text = loaded.encoder.decode([int(token)])
        return {'id': int(token), 'text': text, 'logprob': round(float(log), 6)}

    places = zip(sample.ids, of_ids, best.numpy(), highest.numpy(), strict=True)
    return [
        {**entry(token, log), 'top': list(map(entry, others, theirs))}
        for token, log, others, theirs in places
    ]
