"""What the page shows of a text, unpacked again, beside what the model does with it."""

import base64
import gzip

import numpy as np
import oracle
import pytest
from conftest import recorded

from src.inside import contents, every_layer
from src.sampling import generation

TEXT = '</script><b>"&amp;\n<|endoftext|>!--'


def unpacked(text):
    return gzip.decompress(base64.b64decode(text))


@pytest.fixture(scope='module')
def told(letters):
    ids = letters.encode_to_numpy(TEXT).tolist()
    return contents.contents(generation.Loaded(recorded(), letters), 'tiny', ids)


def test_what_is_packed_is_what_the_model_does(told, letters):
    lm, ids = recorded(), letters.encode_to_numpy(TEXT).tolist()
    assert (told['model'], told['layers'], told['heads']) == ('tiny', 3, 3)
    assert ''.join(told['tokens']) == TEXT and told['tokens'].count('<|endoftext|>') == 1
    size = len(ids)
    triangles = np.frombuffer(unpacked(told['attention']), np.uint8).reshape(3, 3, -1)
    shape = (4, size, told['likeliest'])
    data = unpacked(told['lens'])
    places = np.frombuffer(data, '<u4', 4 * size * 5).reshape(shape)
    probabilities = np.frombuffer(data, np.uint8, offset=places.nbytes).reshape(shape)
    read = every_layer.every_layer(lm.hparams, lm.params, np.array([ids], np.int32))
    for layer, (h, attentions) in enumerate(read):
        if layer < 3:
            rows = [triangles[layer, :, i * (i + 1) // 2 :][:, : i + 1] for i in range(size)]
            for dst, row in enumerate(rows):
                shares = attentions[0, :, dst, : dst + 1]
                np.testing.assert_allclose((row / 255) ** 2, shares, rtol=0, atol=0.004)
        expected = oracle.softmax(every_layer.logits_of(h, lm.params).numpy()[0])
        best = np.argsort(-expected, axis=-1)[:, :5]
        words = [[told['words'][place] for place in row] for row in places[layer].tolist()]
        assert words == [[letters.decode([i]) for i in row] for row in best.tolist()]
        shares = np.take_along_axis(expected, best, axis=-1)
        np.testing.assert_allclose((probabilities[layer] / 255) ** 2, shares, rtol=0, atol=0.004)


def test_the_lens_names_no_ids_without_a_token():
    known = np.array([True, True, False, True])
    shares, ids = contents.lens(np.log(np.float32([[0.1, 0.2, 0.6, 0.1]])), known)
    assert ids.numpy().tolist() == [[1, 0, 3]]
    np.testing.assert_allclose(shares, [[0.2, 0.1, 0.1]], rtol=1e-5)
