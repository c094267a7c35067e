"""nanoGPT's ckpt.pt, and the meta.pkl with a vocabulary of characters.

Its model is GPT-2 with linear layers as PyTorch has them, [n_out, n_in], mostly without biases, and
with gelu as it is defined, where OpenAI computes it by tanh: the same weights give logits that
differ in the third digit. What is written here has all that nanoGPT's sample.py and train.py read.
"""

import contextlib
import os
import sys

import numpy as np

from .. import encoder
from ..data import token_files
from ..model_files import model_directory
from . import portable, torch_files, vocabularies

CHECKPOINT, META = 'ckpt.pt', token_files.META
SIZES = {
    'n_vocab': 'vocab_size', 'n_ctx': 'block_size', 'n_embd': 'n_embd', 'n_head': 'n_head',
    'n_layer': 'n_layer',
}  # fmt: skip
PREFIXES = ('_orig_mod.', 'module.', 'transformer.')  # of torch.compile, of DDP, and its own
OPENAIS_ROWS = (50257, 50304)  # of wte; the second is the next multiple of 64
GELU = 'nanoGPT computes gelu as it is defined and GPT-2 by tanh: logits differ in the third digit'


@contextlib.contextmanager
def opened(path, enc, models_dir):
    """The portable.Model of a ckpt.pt.

    Args:
        enc: its Encoder, or None to look for it.
        models_dir: where a model with OpenAI's vocabulary may be.

    Raises ValueError: another file, a damaged one, or no vocabulary to be found.
    """
    with torch_files.opened(path) as (saved, read_tensor):
        args = saved.get('model_args') if isinstance(saved, dict) else None
        if not isinstance(args, dict) or 'model' not in saved:
            raise ValueError(f'{path} is no checkpoint of nanoGPT: it has no model and model_args')
        sizes = {name: args.get(theirs) for name, theirs in SIZES.items()}
        hparams = portable.hparams_of(path, sizes)
        enc = enc or _vocabulary(path, saved, hparams, models_dir)
        portable.rows_without_token(path, hparams, enc)  # a token without a row is an error
        state = torch_files.state_of(path, saved['model'], read_tensor)
        readers = {_without_prefixes(name): reader for name, reader in state.items()}
        readers.pop('lm_head.weight', None)  # wte itself
        portable.require_layers(path, readers, hparams)
        shapes = portable.shapes_of(hparams)
        absent = set() if args.get('bias', True) else {n for n in shapes if n.endswith('/b')}
        expected = {
            portable.torch_name(name): portable.transposed(shape)
            for name, shape in shapes.items()
            if name not in absent
        }
        found = {n: shape for n, (shape, _) in readers.items() if not portable.is_buffer(n)}
        portable.require(path, found, expected)

        def read(name):
            if name in absent:
                return np.zeros(shapes[name], np.float32)
            _, numbers = readers[portable.torch_name(name)]
            return numbers().T[None] if len(shapes[name]) == 3 else numbers()

        counter = saved.get('iter_num') or 0
        if type(counter) is not int or not 0 <= counter < 10**18:
            raise ValueError(f'{path} has an iter_num that is no number of steps')
        known = (f'It was trained with nanoGPT for {counter:,} steps.',) if counter else ()
        yield portable.cut(portable.Model(path, hparams, enc, read, counter, (GELU,), known))


def _without_prefixes(name):
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _vocabulary(path, saved, hparams, models_dir):
    """The Encoder of a meta.pkl, beside a checkpoint or where nanoGPT has it; or OpenAI's."""
    folder, config = os.path.dirname(path), saved.get('config')
    dataset = config.get('dataset') if isinstance(config, dict) else None
    candidates = [os.path.join(folder, META)]
    if isinstance(dataset, str):
        roots = ('', folder, os.path.join(folder, os.pardir))
        candidates += [os.path.normpath(os.path.join(r, 'data', dataset, META)) for r in roots]
    for meta in candidates:
        if (
            os.path.isfile(meta)
            and len((enc := vocabularies.of_meta(meta)).encoder) == hparams.n_vocab
        ):
            print('Its vocabulary is', meta, file=sys.stderr)
            return enc
    if hparams.n_vocab not in OPENAIS_ROWS:
        raise ValueError(
            f"{path} has {hparams.n_vocab} tokens; that is not OpenAI's vocabulary, and none was "
            f'found as {", ".join(candidates)}. Give it: --vocabulary PATH/{META}'
        )
    vocabulary = model_directory.VOCABULARY
    directory = model_directory.find(model_directory.DEFAULT, models_dir, vocabulary)
    print("Its vocabulary is OpenAI's, of", directory, file=sys.stderr)
    return encoder.get_encoder('', directory)


def write(directory, a_model):
    """Write a folder that nanoGPT's sample.py and train.py take as --out_dir."""
    enc, shapes = a_model.encoder, portable.shapes_of(a_model.hparams)
    dataset = os.path.basename(os.path.abspath(a_model.source))
    if enc.characters is not None and not enc.special:
        print(f'nanoGPT looks for {META} in data/{dataset}; copy it there', file=sys.stderr)
        with open(os.path.join(directory, META), 'xb') as file:
            file.write(token_files.meta_of(enc))
    elif not vocabularies.is_openais(enc):
        print("nanoGPT's sample.py knows OpenAI's vocabulary, and not this one", file=sys.stderr)
    sizes = vars(a_model.hparams)
    names = {f'transformer.{portable.torch_name(name)}': name for name in shapes}
    state = {
        name: torch_files.Saved(number, portable.transposed(shapes[ours]))
        for number, (name, ours) in enumerate(names.items())
    }
    state['lm_head.weight'] = state['transformer.wte.weight']
    saved = {
        'model': state,
        'optimizer': _optimizer(shapes),
        'model_args': {
            **{theirs: sizes[ours] for ours, theirs in SIZES.items()}, 'bias': True, 'dropout': 0.0
        },
        'iter_num': a_model.counter,
        'best_val_loss': 1e9,
        'config': {'dataset': dataset},
    }  # fmt: skip
    arrays = portable.weights(a_model, shapes)
    as_torch = (array[0].T if array.ndim == 3 else array for array in arrays)
    with open(os.path.join(directory, CHECKPOINT), 'xb') as file:
        torch_files.write(file, saved, as_torch)
    arrays.close()


def _optimizer(shapes):
    """What AdamW of PyTorch has before its first step, in nanoGPT's two groups."""
    ranks = [len(shape) > 1 for shape in shapes.values()]
    matrices, others = ranks.count(True), ranks.count(False)
    settings = {
        'lr': 6e-4, 'betas': (0.9, 0.95), 'eps': 1e-8, 'amsgrad': False, 'maximize': False,
        'foreach': None, 'capturable': False, 'differentiable': False, 'fused': None,
        'decoupled_weight_decay': True,
    }  # fmt: skip
    groups = [
        {**settings, 'weight_decay': 0.1, 'params': list(range(matrices))},
        {**settings, 'weight_decay': 0.0, 'params': list(range(matrices, matrices + others))},
    ]
    return {'state': {}, 'param_groups': groups}
