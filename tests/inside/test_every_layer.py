"""Attention, features and logits of each layer, beside what transformers says of them."""

import numpy as np
import pytest
from conftest import GOLDEN

from src import model
from src.converting import convert
from src.inside import embeddings, every_layer
from src.model_files import checkpoint, model_directory

RECORDED = GOLDEN / 'other_programs'


@pytest.fixture(scope='module')
def golden():
    return np.load(RECORDED / 'inside.npz')


@pytest.fixture(scope='module')
def lm(tmp_path_factory):
    """The model that transformers was asked about."""
    source, directory = RECORDED / 'huggingface', tmp_path_factory.mktemp('inside') / 'model'
    convert.convert(convert.ConvertConfig(str(source), str(directory)))
    hparams = checkpoint.read_hparams(str(directory))
    return model.GPT2(hparams, checkpoint.load(model_directory.latest(str(directory)), hparams))


def close(ours, recorded):
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=2e-5)


def test_each_layer_is_as_in_transformers(lm, golden):
    read = list(every_layer.every_layer(lm.hparams, lm.params, np.int32(golden['tokens'])))
    close(np.concatenate([attentions for _, attentions in read[:-1]]), golden['attentions'])
    hidden = np.concatenate([h for h, _ in read])
    close(hidden[:-1], golden['hidden_states'][:-1])
    close(model.norm(hidden[-1], lm.params['ln_f']), golden['hidden_states'][-1])
    close(every_layer.logits_of(hidden, lm.params), golden['logits'])
    assert read[-1][1] is None


def test_the_last_logits_are_those_of_the_model(tiny):
    tokens = np.random.default_rng(1).integers(0, 97, [2, 9]).astype(np.int32)
    *_, (h, _) = every_layer.every_layer(tiny.hparams, tiny.params, tokens)
    np.testing.assert_array_equal(every_layer.logits_of(h, tiny.params), tiny(tokens)['logits'])


def test_attention_is_what_mixes_the_values(tiny):
    """With its shares the mixture of model.attn comes out, for a text of one token too."""
    for size in (1, 9):
        x = np.random.default_rng(1).normal(size=[2, size, 24]).astype(np.float32)
        h1 = tiny.params['h1']
        shares = every_layer.attentions(x, h1, hparams=tiny.hparams).numpy()
        _, present = model.block(x, h1, past=None, hparams=tiny.hparams)
        mixed = model.conv1d(model.merge_heads(shares @ present[:, 1]), h1['attn']['c_proj'])
        a, _ = model.attn(model.norm(x, h1['ln_1']), h1['attn'], past=None, hparams=tiny.hparams)
        np.testing.assert_allclose(mixed, a, atol=1e-5)
        assert (shares[..., np.triu(np.ones([size, size], bool), 1)] == 0).all()


@pytest.mark.parametrize('pooling', ['mean', 'last'])
def test_embeddings_are_of_the_features_that_transformers_has_last(lm, golden, pooling):
    tokens, h = golden['tokens'][0], golden['hidden_states'][-1]
    texts = [tokens[:size].tolist() for size in (5, 16, 1, 7)]
    vectors = embeddings.embeddings(lm, texts, pooling)
    for text, vector in zip(texts, vectors, strict=True):
        n = len(text)
        close(vector, h[:n].mean(axis=0) if pooling == 'mean' else h[n - 1])


def test_batches_have_all_texts_and_are_not_too_large(monkeypatch):
    monkeypatch.setattr(embeddings, 'TOKENS', 16)
    texts = [[0] * size for size in (5, 1, 16, 8, 3, 8, 20)]
    batches = list(embeddings.batches(texts))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(texts[i]) for i in batch) <= 16
    assert len(batches) == 4
