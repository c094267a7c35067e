"""A model out of the files of one program into those of another: python -m src convert --help."""

import contextlib
import dataclasses
import importlib.util
import os
import sys

from .. import encoder
from ..command_line import flags, invocation, quiet
from ..data import whole_files
from ..model_files import model_directory

OPENAI, HUGGING_FACE, NANOGPT, GGUF = 'openai', 'huggingface', 'nanogpt', 'gguf'
CONFIG, CHECKPOINT = 'config.json', 'ckpt.pt'  # by which folders of the others are known
DTYPES = ('float32', 'float16', 'q8_0')
INSTALLATION = 'pip install ".[convert]"'
if invocation.PACKAGE == 'src':  # a checkout, which knows the versions
    INSTALLATION = 'pip install -r requirements-convert.txt'


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Convert a model between OpenAI's files, Hugging Face, nanoGPT and GGUF."""

    source: str = flags.positional(
        metavar='SOURCE',
        help='A model by its name, directory or checkpoint; a folder of Hugging Face; a ckpt.pt of '
        'nanoGPT or its folder; a .gguf',
    )
    destination: str = flags.positional(
        metavar='DESTINATION', help='A new folder, such as models/NAME, or a new .gguf'
    )
    to: str = flags.flag(
        None,
        choices=(OPENAI, HUGGING_FACE, NANOGPT, GGUF),
        help='Whose files a folder shall have; else huggingface where SOURCE is ours, and openai, '
        'which is ours, where it is not',
    )
    dtype: str = flags.flag('float32', choices=DTYPES, help='Of the weights of a .gguf')
    vocabulary: str = flags.flag(
        None,
        metavar='MODEL',
        help='Where the vocabulary of SOURCE is, if not beside it: in a model, or a meta.pkl',
    )
    models_dir: str = flags.flag(
        model_directory.MODELS, metavar='DIR', help='The folder of the models'
    )

    def __post_init__(self):
        """Raises ValueError: something is there already, or options do not go together."""
        flags.check(self)
        path, is_gguf = self.destination, self.destination.endswith('.gguf')
        if self.to and is_gguf != (self.to == GGUF):
            problem = 'is a file' if is_gguf else 'has no name that ends in .gguf'
            raise ValueError(f'--to {self.to}: {path} {problem}; leave --to out, or rename it')
        if path.endswith('.pt'):
            raise ValueError(
                f'nanoGPT reads a folder with {CHECKPOINT} in it: name a folder instead of '
                f'{path}, and --to {NANOGPT}'
            )
        if self.dtype != 'float32' and not is_gguf:
            raise ValueError(f'--dtype {self.dtype} is for a .gguf; other files are float32')
        if os.path.realpath(path) == os.getcwd():
            raise ValueError(f"DESTINATION is '{path}', this folder; name a new one in it")
        if os.path.lexists(path) and not (_is_empty_folder(path) and not is_gguf):
            raise ValueError(f'{path} is there already, and stays as it is; name a new one')
        if is_gguf and not os.path.isdir(os.path.dirname(path) or os.curdir):
            raise ValueError(f'there is no folder to write {path} into; make it first')


def _is_empty_folder(path):
    return os.path.isdir(path) and not os.listdir(path)


def main():
    convert(flags.parse(ConvertConfig))


def convert(config):
    """Write what `config` says, and name it on stderr.

    Raises:
        ValueError: no such model, one that is no GPT-2 as OpenAI made it, or damaged files.
        OSError: a file cannot be read or written; nothing is left of what was begun.
    """
    kind, path, prefix = found(config.source, config.models_dir)
    is_gguf = config.destination.endswith('.gguf')
    to = GGUF if is_gguf else config.to or (HUGGING_FACE if kind == OPENAI else OPENAI)
    if GGUF in (kind, to):
        require_package()
    if config.vocabulary and kind in (OPENAI, GGUF):
        raise ValueError(f'{path} has its own vocabulary; leave --vocabulary out')
    enc = _vocabulary(config)
    quiet.import_tensorflow()  # here: what cannot be meant is refused before it loads
    with opened(kind, path, prefix, enc, config.models_dir) as a_model:
        for sentence in a_model.told:
            print(sentence, file=sys.stderr)
        write(to, config.destination, a_model, config.dtype)
    print('Wrote', config.destination, file=sys.stderr)


def found(source, models_dir):
    """(kind, path, prefix of a checkpoint or None) of what SOURCE means.

    Raises ValueError: there is nothing, or nothing that is known.
    """
    if os.path.isfile(source) and source.endswith('.gguf'):
        return GGUF, source, None
    if os.path.isfile(source) and not source.endswith('.index'):
        if source.endswith('.pt'):
            return NANOGPT, source, None
        folder = os.path.dirname(source) or os.curdir
        raise ValueError(f'{source} is a file; name its folder, {folder}, or a .pt or .gguf')
    if os.path.isdir(source) and not model_directory.has(source, ['hparams.json']):
        if os.path.isfile(os.path.join(source, CONFIG)):
            return HUGGING_FACE, source, None
        if os.path.isfile(os.path.join(source, CHECKPOINT)):
            return NANOGPT, os.path.join(source, CHECKPOINT), None
        raise ValueError(
            f"{source} is no model: it has no hparams.json, as OpenAI's and ours, no {CONFIG}, as "
            f"Hugging Face's, and no {CHECKPOINT}, as nanoGPT's"
        )
    if os.path.isdir(source) and os.sep not in source:
        source = os.path.join(os.curdir, source)  # a name alone is looked for elsewhere
    directory, prefix = model_directory.checkpoint_of(source, models_dir)
    if not prefix:
        raise ValueError(f'{directory} has no checkpoint')
    return OPENAI, directory, prefix


def require_package():
    """Raise ValueError where the package gguf is not installed."""
    if not importlib.util.find_spec('gguf'):
        raise ValueError(f'GGUF needs a package: {INSTALLATION}')


def _vocabulary(config):
    """The Encoder that --vocabulary means, or None."""
    name = config.vocabulary
    if name is None:
        return None
    if name.endswith('.pkl'):
        from . import vocabularies

        return vocabularies.of_meta(name)
    directory = model_directory.find(name, config.models_dir, model_directory.VOCABULARY)
    return encoder.get_encoder('', directory)


@contextlib.contextmanager
def opened(kind, path, prefix, enc, models_dir):
    """The portable.Model in somebody's files; `enc` is an Encoder in the place of theirs, or None.

    Raises ValueError: one that is no GPT-2 as OpenAI made it, or damaged files.
    """
    from . import gguf_files, hugging_face, nano_gpt, openai

    with contextlib.ExitStack() as stack:
        if kind == OPENAI:
            a_model = stack.enter_context(openai.opened(path, prefix))
        elif kind == HUGGING_FACE:
            a_model = stack.enter_context(hugging_face.opened(path, enc))
        elif kind == NANOGPT:
            a_model = stack.enter_context(nano_gpt.opened(path, enc, models_dir))
        else:
            a_model = gguf_files.opened(path)
        yield a_model


def write(kind, path, a_model, dtype='float32'):
    """Write a model into new files, which have their names when they are complete."""
    from . import gguf_files, hugging_face, nano_gpt, openai

    if kind == GGUF:
        with whole_files.complete(path) as file:
            gguf_files.write(file.name, a_model, dtype)
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with whole_files.complete_folder(path) as folder:
        {OPENAI: openai, HUGGING_FACE: hugging_face, NANOGPT: nano_gpt}[kind].write(folder, a_model)
