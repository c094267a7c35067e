"""A .gguf, read by llama.cpp's own package, and there and back."""

import gguf
import numpy as np
import pytest
from conftest import GOLDEN
from conversions import converted, weights

OURS = str(GOLDEN / 'openai_checkpoint')


def field(reader, name):
    return reader.get_field(name).contents()


def test_it_has_what_llama_cpp_asks_for(tmp_path):
    reader = gguf.GGUFReader(str(converted(OURS, tmp_path / 'x.gguf')))
    assert field(reader, 'general.architecture') == 'gpt2'
    assert field(reader, 'tokenizer.ggml.model') == 'gpt2'
    assert field(reader, 'tokenizer.ggml.pre') == 'gpt-2'
    assert len(field(reader, 'tokenizer.ggml.tokens')) == 97
    sizes = ('context_length', 'embedding_length', 'block_count', 'attention.head_count')
    assert [field(reader, f'gpt2.{size}') for size in sizes] == [32, 24, 3, 3]
    ours = weights(OURS)
    theirs = {tensor.name: tensor for tensor in reader.tensors}
    np.testing.assert_array_equal(theirs['token_embd.weight'].data, ours['model/wte'])
    c_attn = ours['model/h1/attn/c_attn/w'][0]  # [in, out]; there it is transposed
    np.testing.assert_array_equal(theirs['blk.1.attn_qkv.weight'].data, c_attn.T)


@pytest.mark.parametrize('dtype, atol', [('float32', 0), ('float16', 1e-3)])
def test_there_and_back(tmp_path, dtype, atol):
    path = converted(OURS, tmp_path / 'x.gguf', dtype=dtype)
    back, ours = weights(converted(path, tmp_path / 'back')), weights(OURS)
    assert back.keys() == ours.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(back[name], value, rtol=0, atol=atol, err_msg=name)
