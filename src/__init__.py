"""GPT-2 in TensorFlow 2.

From Python:  download, encode_dataset, finetune, load; see docs/python.md.

OpenAI's files, and Shepperd's:

    encoder         text to tokens and back
    load_dataset    files to chunks of tokens, chunks to windows
    model           tokens to logits; the loss
    accumulate      the mean gradient of several small batches
    sample          logits to the next token, and the loop around it
    memory_saving_gradients         recomputing, in any graph
    interactive_conditional_samples, generate_unconditional_samples

and a room for each thing that is done, in the order in which data flows:

    data            the user's files
    encoding        a vocabulary, a file of tokens
    model_files     models on disk
    gradients       a batch to the loss and its gradients
    training        a run
    sampling        a prompt to texts
    evaluation      how good it is
    exporting       files that other programs serve
    serving         texts for many at once, over HTTP
    converting      models from and to the files of other programs
    inside          what happens in a model while it reads
    api             the Python interface
    simple          gpt-2-simple's names for it
    command_line    flags

Each room's docstring lists its files. tests/test_layers.py holds the order of imports.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from .api.commands import download, encode_dataset, finetune, load

__version__ = '0.2.0'
__all__ = ['download', 'encode_dataset', 'finetune', 'load']


def __getattr__(name):  # only when it is asked for: whoever imports one file waits for no other
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module('.api.commands', __name__), name)


def __dir__():
    return [*globals(), *__all__]
