"""One sentence on its way through all files, as the table in README.md tells it."""

import numpy as np
import tensorflow as tf

from src import accumulate, encoder, load_dataset, model, sample
from src.gradients import backpropagation, lean_block
from src.model_files import architecture, checkpoint, model_directory
from src.training import optimizer

SENTENCE = 'The secret of life'


def test_the_journey_of_a_sentence(models_dir, tmp_path):
    model_dir = str(models_dir / 'tiny')

    # 1 text -> tokens: one for each character, since this vocabulary has nothing to merge
    enc = encoder.get_encoder('tiny', str(models_dir))
    tokens = enc.encode(SENTENCE)
    assert [enc.decoder[token] for token in tokens] == list(SENTENCE.replace(' ', 'Ġ'))

    # 2 files -> chunks, with the end of the text marked
    (tmp_path / 'text').write_text(SENTENCE)
    (chunk,) = load_dataset.load_dataset(enc, str(tmp_path / 'text'), 50000)
    assert chunk.tolist() == [*tokens, enc.encoder['<|endoftext|>']]

    # 3 chunks -> windows
    window = load_dataset.Sampler([chunk], seed=0).sample(8)
    assert ''.join(map(chr, window)) in ''.join(map(chr, chunk))
    batch = tf.constant(window[None], tf.int32)  # [1, 8]

    # 4 batch -> logits: for each token, how likely each of 97 is to follow
    hparams = checkpoint.read_hparams(model_dir)
    params = checkpoint.load(model_directory.latest(model_dir), hparams)
    logits = model.model(hparams, params, batch)['logits']
    assert logits.shape == [1, 8, 97]

    # 5 logits -> loss: the mean surprise at the seven tokens that did follow
    loss = model.lm_loss(logits, batch)
    surprise = -np.log(tf.nn.softmax(logits).numpy()[0, range(7), window[1:]])
    np.testing.assert_allclose(loss, surprise.mean(), rtol=1e-5)

    # 6 loss -> gradients, of two batches, layer by layer, each computed a second time for it
    variables = model.by_name(params)
    block = lean_block.lean_block()

    def loss_and_gradients(batch):
        loss, parts = backpropagation.loss_and_gradients(
            model.GPT2(hparams, params), variables, batch, batch,
            block=block, dtype=tf.float32, recompute=True,
        )  # fmt: skip
        gradients = {name: gradient for part in parts for name, gradient in part.items()}
        return loss, [gradients[name] for name in variables]

    shapes = [variable.shape for variable in variables.values()]
    mean_loss, gradients = accumulate.mean_gradients(
        loss_and_gradients, tf.stack([batch, batch]), shapes
    )
    np.testing.assert_allclose(mean_loss, loss, rtol=1e-5)
    gradients = dict(zip(variables, gradients, strict=True))

    # 7 gradients -> weights: a small step down
    optimizer.SGD(variables).apply(gradients, 1e-3, tf.constant(0.0))
    assert model.lm_loss(model.model(hparams, params, batch)['logits'], batch) < loss

    # 8 weights -> files, 9 files -> weights
    run_dir = str(tmp_path / 'run')
    files = architecture.files(model_dir, hparams, enc)
    checkpoint.save(run_dir, 1, params, {'step': tf.constant(1)}, files)
    again = checkpoint.load(model_directory.latest(run_dir), checkpoint.read_hparams(run_dir))
    for name, variable in model.by_name(again).items():
        assert np.array_equal(variable, variables[name])

    # 10 prompt -> tokens: after each, the likeliest one
    lm = model.GPT2(hparams, again)
    continued = sample.sample_sequence(lm=lm, length=3, context=[tokens], temperature=0)
    expected = list(tokens)
    for _ in range(3):
        logits = model.model(hparams, again, tf.constant([expected]))['logits']
        expected.append(int(tf.argmax(logits[0, -1])))
    assert continued.tolist() == [expected]

    # 11 tokens -> text
    assert enc.decode(continued[0].tolist()).startswith(SENTENCE)
