"""Folders of Hugging Face's transformers: config.json, weights, and a tokenizer.

Its GPT-2 is OpenAI's with switches, which config.json has. What they do to a model is undone in the
weights where that gives the same function; else the switch is named, and the model refused.
"""

import contextlib
import hashlib
import json
import math
import os

import numpy as np

from .. import encoder
from ..command_line import escaping
from . import model_card, portable, safetensors_files, torch_files, vocabularies

CONFIG = 'config.json'
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
LARGEST_SHARD = 5 * 10**9  # bytes
TANH = ('gelu_new', 'gelu_pytorch_tanh', 'gelu_fast', 'gelu_accurate')  # four names of model.gelu
# What config.json must say, or leave out: the rest of GPT-2.
FIXED = {
    'activation_function': 'gelu_new', 'add_cross_attention': False, 'layer_norm_epsilon': 1e-5,
}  # fmt: skip


@contextlib.contextmanager
def opened(directory, enc):
    """The portable.Model of a folder.

    Args:
        enc: its Encoder, or None to read it from there.

    Raises ValueError: a model of another kind, or files that are missing or damaged.
    """
    path = os.path.join(directory, CONFIG)
    config = vocabularies.object_in(path)
    hparams = hparams_of(path, config)
    enc, told = (enc, []) if enc else vocabularies.of_folder(directory)
    told = [*told, *portable.rows_without_token(directory, hparams, enc)]
    with contextlib.ExitStack() as stack:
        weights, readers = _weights(stack, directory)
        portable.require_layers(weights, readers, hparams)
        shapes = {
            name: _shape_there(name, shape, config, hparams)
            for name, shape in portable.shapes_of(hparams).items()
        }
        expected = {portable.torch_name(n): shape[-2:] for n, shape in shapes.items()}
        head = readers.pop('lm_head.weight', None)
        portable.require(weights, {name: shape for name, (shape, _) in readers.items()}, expected)
        if head and not config.get('tie_word_embeddings', True):
            _require_same(weights, head, readers['wte.weight'])

        def read(name):
            _, numbers = readers[portable.torch_name(name)]
            return _as_openais(name, numbers().reshape(shapes[name]), config, hparams)

        yield portable.Model(directory, hparams, enc, read, told=tuple(told))


def hparams_of(path, config):
    """The HParams that a config.json describes.

    Raises ValueError: a config.json of no GPT-2, or of one that cannot be represented.
    """
    kind = config.get('model_type', 'gpt2' if 'n_embd' in config else None)
    if kind != 'gpt2':
        kind = escaping.told(kind)
        raise ValueError(f'{path} has the model_type {kind}; only gpt2 can be converted')
    for name, value in FIXED.items():
        told = config.get(name, value)
        if told != value and not (name == 'activation_function' and told in TANH):
            told = escaping.told(told)
            raise ValueError(f"{path} has {name} {told}; OpenAI's GPT-2 has {value}")
    sizes = {name: config[name] for name in ('n_embd', 'n_head', 'n_layer') if name in config}
    sizes['n_vocab'] = config.get('vocab_size', 50257)
    sizes['n_ctx'] = config.get('n_positions', config.get('n_ctx', 1024))
    hparams = portable.hparams_of(path, sizes)
    inner, whole = config.get('n_inner'), 4 * hparams.n_embd
    if inner is not None and not (type(inner) is int and 0 < inner <= whole):
        inner = escaping.told(inner)
        raise ValueError(f'{path} has n_inner {inner}; GPT-2 has 4 n_embd, which is {whole}')
    return hparams


def _shape_there(name, shape, config, hparams):
    """The shape that one of the weights has in a folder: with n_inner in the place of 4 n_embd."""
    if '/mlp/' not in name or not config.get('n_inner'):
        return shape
    return [config['n_inner'] if size == 4 * hparams.n_embd else size for size in shape]


def _as_openais(name, array, config, hparams):
    """One of the weights so that OpenAI's model computes what this one does."""
    if '/attn/c_attn/' in name:
        scale = 1.0
        if config.get('scale_attn_by_inverse_layer_idx'):
            scale /= 1 + int(name.split('/')[1][1:])
        if not config.get('scale_attn_weights', True):
            scale *= math.sqrt(hparams.n_embd / hparams.n_head)
        if scale != 1:  # of the query, to which attention is proportional
            scales = np.repeat(np.float32([scale, 1, 1]), hparams.n_embd)
            return array * scales
    if '/mlp/' in name and config.get('n_inner'):  # gelu(0) is 0: what is added does nothing
        shape = portable.shapes_of(hparams)[name]
        return np.pad(array, [(0, to - size) for size, to in zip(array.shape, shape, strict=True)])
    return array


def _require_same(path, head, wte):
    """Raise ValueError where the output layer is not wte; each is (shape, what reads it)."""
    one, other = (hashlib.sha256(read().tobytes()).digest() for _, read in (head, wte))
    if one != other:
        raise ValueError(
            f"{path} has an lm_head other than wte (tie_word_embeddings is false); OpenAI's GPT-2 "
            'has wte in both places, and cannot be the same function'
        )


def _weights(stack, directory):
    """(path, {name: (shape, what reads it)}) of the weights, without prefixes and buffers."""
    for name in WEIGHTS:
        path = os.path.join(directory, name)
        index = f'{path}.index.json'
        if os.path.exists(path) or os.path.exists(index):
            break
    else:
        raise ValueError(_no_weights(directory))
    paths = [path]
    if not os.path.exists(path):
        path, paths = index, _parts(directory, index)
    readers = {}
    for each in paths:
        found = (_of_safetensors if each.endswith('.safetensors') else _of_torch)(stack, each)
        readers |= {name.removeprefix('transformer.'): reader for name, reader in found.items()}
    return path, {name: each for name, each in readers.items() if not portable.is_buffer(name)}


def _no_weights(directory):
    problem = f'{directory} has no {" and no ".join(WEIGHTS)}'
    if any(os.path.exists(os.path.join(directory, f'{n}_model.{e}')) for n, e in OTHER_WEIGHTS):
        return (
            f'{problem}, but weights for another library. Where transformers is installed: '
            'AutoModelForCausalLM.from_pretrained(…).save_pretrained(…), and convert that folder'
        )
    return problem


OTHER_WEIGHTS = (('tf', 'h5'), ('flax', 'msgpack'))


def parts_in(index):
    """The files of weights that an index names. Raises ValueError where it is damaged."""
    names = vocabularies.object_in(index).get('weight_map')
    names = sorted(set(map(str, names.values()))) if isinstance(names, dict) else []
    if not names or any(name != os.path.basename(name) for name in names):
        raise ValueError(f'{index} is damaged: it should have a weight_map, with names of files')
    return names


def _parts(directory, index):
    names = parts_in(index)
    for name in names:
        if not os.path.exists(os.path.join(directory, name)):
            name = escaping.told(name)
            raise ValueError(f'{index} names {name}, and there is no such file beside it')
    return [os.path.join(directory, name) for name in names]


def _of_safetensors(_, path):
    """{name: (shape, what reads it)} of a file."""
    tensors = safetensors_files.tensors_of(path)
    return {name: (tensor.shape, tensor.read) for name, tensor in tensors.items()}


def _of_torch(stack, path):
    saved, read = stack.enter_context(torch_files.opened(path))
    return torch_files.state_of(path, saved, read)


def write(directory, a_model):
    """Write a folder that transformers loads. Raises ValueError: a vocabulary that it cannot."""
    hparams, enc = a_model.hparams, a_model.encoder
    end = enc.special.get(encoder.END_OF_TEXT)
    files = vocabularies.in_files_of_transformers(enc, hparams.n_ctx)
    files[CONFIG] = _json(config_of(hparams, end))
    files['generation_config.json'] = _json({'bos_token_id': end, 'eos_token_id': end})
    files['README.md'] = model_card.of(a_model)
    for name, text in files.items():
        with open(os.path.join(directory, name), 'x', encoding='utf-8', newline='\n') as file:
            file.write(text)
    shapes = portable.shapes_of(hparams)
    shards = _in_shards(shapes)
    arrays, places = portable.weights(a_model, shapes), {}
    for number, names in enumerate(shards, 1):
        file_name = WEIGHTS[0]
        if len(shards) > 1:
            file_name = f'model-{number:05}-of-{len(shards):05}.safetensors'
        there = {f'transformer.{portable.torch_name(n)}': shapes[n] for n in names}
        there = {name: shape[-2:] for name, shape in there.items()}
        places |= dict.fromkeys(there, file_name)
        with open(os.path.join(directory, file_name), 'xb') as file:
            safetensors_files.write(file, there, (next(arrays) for _ in names))
    arrays.close()
    if len(shards) > 1:
        size = portable.size_of(shapes.values())
        index = {'metadata': {'total_size': size}, 'weight_map': dict(sorted(places.items()))}
        with open(os.path.join(directory, f'{WEIGHTS[0]}.index.json'), 'x') as file:
            file.write(_json(index))


def _in_shards(shapes):
    """[[name, …], …], each list of no more than LARGEST_SHARD bytes, or of one tensor."""
    shards, size = [[]], 0
    for name, shape in shapes.items():
        size += portable.size_of([shape])
        if shards[-1] and size > LARGEST_SHARD:
            shards.append([])
            size = portable.size_of([shape])
        shards[-1].append(name)
    return shards


def config_of(hparams, end):
    """The config.json of a model; `end` is the id of `<|endoftext|>`, or None."""
    return {
        **FIXED, 'architectures': ['GPT2LMHeadModel'], 'attn_pdrop': 0.1, 'bos_token_id': end,
        'dtype': 'float32', 'embd_pdrop': 0.1, 'eos_token_id': end, 'initializer_range': 0.02,
        'model_type': 'gpt2', 'n_ctx': hparams.n_ctx, 'n_embd': hparams.n_embd,
        'n_head': hparams.n_head, 'n_inner': None, 'n_layer': hparams.n_layer,
        'n_positions': hparams.n_ctx, 'pad_token_id': None, 'reorder_and_upcast_attn': False,
        'resid_pdrop': 0.1, 'scale_attn_by_inverse_layer_idx': False, 'scale_attn_weights': True,
        'tie_word_embeddings': True, 'use_cache': True, 'vocab_size': hparams.n_vocab,
    }  # fmt: skip


def _json(content):
    return json.dumps(content, indent=2, sort_keys=True) + '\n'
