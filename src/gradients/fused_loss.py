"""The last matrix product and the cross-entropy as one, without all the logits at once.

The logits of a batch are its largest tensor by far: 1024 tokens of GPT-2 have 206 MB of them, and
their gradient as many again. Here some rows at a time become logits, a loss and gradients, and the
gradient of the embedding is added up in place.
"""

import tensorflow as tf

ROWS = 256  # of logits at once, 51 MB with OpenAI's vocabulary
TOKENS = 8192  # rows of the embedding's gradient that are added to at once, 25 MB in 124M


def linear_cross_entropy(
    h, labels, wte, dtype=tf.float32, train_wte=True, scale=1.0, rows=ROWS, slices=1, weights=None
):
    """Mean cross-entropy in nats of softmax(h wteᵀ), as model.lm_loss of model.logits_of.

    Args:
        h: [n, features].
        labels: [n], the token that follows each row.
        wte: [vocab, features], a tensor.
        dtype: of the matrix products; the softmax and all sums are float32.
        train_wte: whether wte shall have a gradient.
        scale: what the gradients, not the loss, are multiplied by: float16 holds none below 6e-8.
        rows: of logits at once.
        slices: of so many rows, whose gradients by logits are kept until they are multiplied; more
            of both take more memory and less time.
        weights: [n], what the loss of each row is multiplied by before the mean; None for ones.

    The gradients are computed along with the loss, wanted or not; cross_entropy leaves them out.
    """

    @tf.custom_gradient
    def loss_of(h, wte):
        n = h.shape[0]
        h, wte = tf.cast(h, dtype), tf.cast(wte, dtype)
        loss, dh, dwte, kept, done = 0.0, [], None, [], []
        for start in range(0, n, rows):
            with tf.control_dependencies(done):  # one slice after the other: the memory of one
                some = tf.identity(h[start : start + rows])
            some_labels = labels[start : start + rows]
            losses, p = _cross_entropy(some, some_labels, wte)
            factor = scale / n
            if weights is not None:
                losses *= weights[start : start + rows]
                factor *= weights[start : start + rows, None]
            loss += tf.reduce_sum(losses) / n
            with tf.control_dependencies([loss]):  # p is no more after that
                d = tf.cast(_less_one(p, some_labels) * factor, dtype)  # [rows, vocab]
            dh.append(tf.matmul(d, wte))
            done = [loss, dh[-1]]
            if train_wte:
                kept.append((d, some))
                if len(kept) == slices or start + rows >= n:
                    dwte, kept = _plus_products(dwte, *zip(*kept, strict=True)), []
                    done.append(dwte)
        with tf.control_dependencies(done):  # what goes on with dh would need more memory
            dh = tf.cast(tf.concat(dh, axis=0), tf.float32)
        return loss, lambda upstream: (dh * upstream, dwte * upstream if train_wte else None)

    return loss_of(h, wte)


def _plus_products(dwte, ds, hs):  # [vocab, features] or None, [rows, vocab]s, [rows, features]s
    """dwte + Σ dᵀ h, in the memory of dwte."""
    h, vocab = tf.concat(hs, axis=0), ds[0].shape[1]
    if dwte is None:
        d = tf.concat(ds, axis=0)
        return tf.cast(tf.matmul(d, h, transpose_a=True), tf.float32)
    for start in range(0, vocab, TOKENS):
        end = min(start + TOKENS, vocab)
        with tf.control_dependencies([dwte]):
            d = tf.concat([d[:, start:end] for d in ds], axis=0)
            piece = tf.cast(tf.matmul(d, h, transpose_a=True), tf.float32)
        dwte = tf.raw_ops.InplaceAdd(x=dwte, i=tf.range(start, end), v=piece)
    return dwte


def cross_entropy(h, labels, wte):  # [n, features], [n], [vocab, features] -> [n]
    """The cross-entropy of each row, without gradients."""
    losses, done = [], []
    for start in range(0, h.shape[0], ROWS):
        with tf.control_dependencies(done):
            some = tf.identity(h[start : start + ROWS])
        losses.append(_cross_entropy(some, labels[start : start + ROWS], wte)[0])
        done = losses[-1:]
    return tf.concat(losses, axis=0)


def _cross_entropy(h, labels, wte):  # -> the loss of each row, [rows], and softmax, [rows, vocab]
    # From tf.nn.softmax, which is ten times as fast here as TensorFlow's cross-entropy.
    logits = tf.cast(tf.matmul(h, wte, transpose_b=True), tf.float32)  # [rows, vocab]
    p = tf.nn.softmax(logits)
    log_sum = tf.reduce_max(logits, axis=-1) - tf.math.log(tf.reduce_max(p, axis=-1))
    return log_sum - tf.gather(logits, labels, batch_dims=1), p


def _less_one(p, labels):  # [rows, vocab], [rows] -> p, in its own memory, less 1 at the labels
    rows, vocab = p.shape
    flat = tf.raw_ops.InplaceSub(
        x=tf.reshape(p, [-1]), i=tf.range(rows) * vocab + labels, v=tf.ones([rows])
    )
    return tf.reshape(flat, [rows, vocab])
