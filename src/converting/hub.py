"""Models of Hugging Face to model directories: fetched, and converted when they have come.

What a repository has, with sizes and sums, its server says in one file of JSON. The files come one
by one as OpenAI's do, and those that tell whether it is a GPT-2 before the weights. They wait in a
hidden folder until the model is complete, and are removed then.
"""

import dataclasses
import os
import re
import shutil
import sys

from .. import encoder
from ..command_line import quiet
from ..data import whole_files
from ..model_files import download as openais
from ..model_files import fetching, model_directory, rotation
from ..training import run_directory
from . import vocabularies

REPOSITORIES = {
    '124M': 'openai-community/gpt2',
    '355M': 'openai-community/gpt2-medium',
    '774M': 'openai-community/gpt2-large',
    '1558M': 'openai-community/gpt2-xl',
}
ENDPOINT = 'https://huggingface.co'
CONFIG, LISTING, INDEX = 'config.json', 'listing.json', '.index.json'
VOCABULARIES = (('tokenizer.json',), ('vocab.json', 'merges.txt'))  # the better first
WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
BESIDE = ('tokenizer_config.json', 'added_tokens.json')


def is_repository(name):
    """Whether this is an OWNER/NAME of Hugging Face."""
    return bool(re.fullmatch(r'[a-z0-9][\w.-]*/[a-z0-9][\w.-]*', name, re.ASCII | re.IGNORECASE))


def repository_of(name):
    """The OWNER/NAME of one of OpenAI's models, or of itself. Raises ValueError for others."""
    known = REPOSITORIES.get(name) or REPOSITORIES.get(model_directory.ALIASES.get(name))
    if not known and not is_repository(name):
        raise ValueError(
            f'{name!r} is no model of Hugging Face; there are {openais.SIZES}, and every '
            f'OWNER/NAME that is a GPT-2, such as {REPOSITORIES["124M"]}'
        )
    return known or name


@dataclasses.dataclass(frozen=True)
class Server:
    """What has the models, and who asks it."""

    url: str
    token: str | None

    def fetch(self, path, file, most, sha256=None, size=None):
        """As fetching.fetch, of what has that path there; what is refused comes with advice."""
        url = f'{self.url}/{path}'
        try:
            fetching.fetch(url, file, most, sha256, size, self.token)
        except fetching.Refused as error:
            advice = (
                'The model is private, wants its terms to be accepted, or is not there: accept '
                'them on its page, and put a token of huggingface.co/settings/tokens into HF_TOKEN'
            )
            if self.token:
                advice = (
                    'The token in HF_TOKEN may not read it: accept its terms on its page, or make '
                    'another token, huggingface.co/settings/tokens'
                )
            raise fetching.Refused(f'{error}. {advice}') from None


def _server():
    """As HF_ENDPOINT and HF_TOKEN say. Raises ValueError, which does not show it, for no token."""
    token = os.environ.get('HF_TOKEN', '').strip()
    if not re.fullmatch('[!-~]*', token):
        raise ValueError('HF_TOKEN has spaces in it, or other characters that no token has')
    return Server((os.environ.get('HF_ENDPOINT') or ENDPOINT).rstrip('/'), token or None)


def download(name, models_dir):
    """Fetch a model into models_dir/name, of OWNER/NAME the second; returns that directory.

    Raises:
        ValueError: it is no GPT-2 as OpenAI made it, or something has its name.
        OSError: ServerError where it is not to be had, or it cannot be written.
    """
    repository, server = repository_of(name), _server()
    directory = os.path.join(models_dir, os.path.basename(name))
    if os.path.lexists(directory) and not (os.path.isdir(directory) and not os.listdir(directory)):
        if model_directory.has(directory, model_directory.WHOLE) and name != repository:
            print(f'{directory} is there already, and stays as it is', file=sys.stderr)
            return directory
        if name == repository or not os.path.isdir(directory):
            raise ValueError(f'{directory} is there already, and stays as it is; rename it')
    folder = os.path.join(models_dir, f'.{repository.replace("/", "--")}.part')
    os.makedirs(folder, exist_ok=True)
    print(f'{repository} of {server.url} will be {directory}', file=sys.stderr)
    try:
        _fetch(server, repository, folder)
        _convert(folder, directory, openais.size_of(name))
    except ValueError as error:  # what has come would not do the next time either
        shutil.rmtree(folder)
        raise ValueError(str(error).replace(folder, repository)) from None
    finally:
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
    shutil.rmtree(folder)
    return directory


def _fetch(server, repository, folder):
    """Fetch what is needed of a repository into `folder`. Raises ValueError: it is no GPT-2."""
    files, revision = _listing(server, repository, folder)
    for name in os.listdir(folder):
        if re.sub(r'\.part(\.etag)?$', '', name) not in files:  # of an earlier revision
            os.remove(os.path.join(folder, name))

    def fetch(name, most):
        path = f'{repository}/resolve/{revision}/{name}'
        server.fetch(path, os.path.join(folder, name), most, *files[name])

    weights = _weights(repository, files)
    beside = [name for name in (*_vocabulary(repository, files), *BESIDE) if name in files]
    for name in (CONFIG, *beside):
        fetch(name, encoder.LARGEST)
    _require_gpt2(folder)
    if weights.endswith(INDEX):
        fetch(weights, encoder.LARGEST)
    for name in _parts(repository, folder, weights, files):
        fetch(name, openais.LARGEST_DATA)


def _listing(server, repository, folder):
    """({name: (sha256, size)} of the files of a repository, None for what is not told; revision).

    Raises ServerError: there is no such repository, or the answer is none.
    """
    path = os.path.join(folder, LISTING)
    address = f'api/models/{repository}?blobs=true'
    try:
        server.fetch(address, path, encoder.LARGEST)
        told = vocabularies.object_in(path)
        files = {each['rfilename']: _of_file(each) for each in told['siblings']}
    except fetching.Absent:
        raise fetching.Absent(
            f'There is no {repository} at {server.url} (404); there are {openais.SIZES}, and every '
            'OWNER/NAME of Hugging Face that is a GPT-2'
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise fetching.ServerError(
            f'{server.url}/{address} does not tell which files {repository} has'
        ) from None
    finally:
        if os.path.exists(path):
            os.remove(path)
    revision = str(told.get('sha'))
    return files, revision if re.fullmatch('[0-9a-f]{40}', revision) else 'main'


def _of_file(told):
    """(sha256, size) of a file; large ones lie elsewhere, and it is told of them what is there."""
    told = {**told, **(told.get('lfs') or {})}
    sha256, size = told.get('sha256'), told.get('size')
    is_sum = isinstance(sha256, str) and re.fullmatch('[0-9a-f]{64}', sha256)
    return sha256 if is_sum else None, size if type(size) is int else None


def _weights(repository, files):
    """The file with the weights, or the one that lists their parts. Raises ValueError: none."""
    for name in (each for weights in WEIGHTS for each in (weights, f'{weights}{INDEX}')):
        if name in files and CONFIG in files:
            return name
    raise ValueError(
        f'{repository} has no {" and no ".join(WEIGHTS)}, as GPT-2s of transformers have'
        if CONFIG in files
        else f'{repository} has no {CONFIG}; it is no model of transformers'
    )


def _vocabulary(repository, files):
    """The files with the vocabulary. Raises ValueError: none."""
    for names in VOCABULARIES:
        if all(name in files for name in names):
            return names
    raise ValueError(
        f'{repository} has no tokenizer.json, and no vocab.json with merges.txt, which are the '
        'vocabulary of a GPT-2'
    )


def _require_gpt2(folder):
    """Raise ValueError where what stands beside the weights is not of a GPT-2."""
    quiet.import_tensorflow()
    from . import hugging_face, portable

    path = os.path.join(folder, CONFIG)
    hparams = hugging_face.hparams_of(path, vocabularies.object_in(path))
    enc, _ = vocabularies.of_folder(folder)
    portable.rows_without_token(folder, hparams, enc)


def _parts(repository, folder, weights, files):
    """The files with the weights. Raises ValueError where an index names others."""
    from . import hugging_face

    if not weights.endswith(INDEX):
        return [weights]
    names = hugging_face.parts_in(os.path.join(folder, weights))
    for name in names:
        if name not in files:
            raise ValueError(f'{repository}/{weights} names {name}, and there is no such file')
    return names


def _convert(folder, directory, size):
    """Convert a folder of transformers into a new model directory, with OpenAI's names of files.

    Args:
        size: the bytes of its weights in float32 where it should be OpenAI's, or None.
    """
    from . import hugging_face, openai, portable

    with hugging_face.opened(folder, None) as a_model:
        there = portable.size_of(portable.shapes_of(a_model.hparams).values())
        if size and (there != size or not vocabularies.is_openais(a_model.encoder)):
            raise ValueError(f"{folder} is not OpenAI's model: its sizes or its tokens are others")
        for sentence in a_model.told:
            print(sentence, file=sys.stderr)
        if os.path.isdir(directory) and os.listdir(directory):  # a part of OpenAI's files
            run_directory.rename(directory)
        with whole_files.complete_folder(directory) as new:
            openai.write(new, a_model)
            _name_as_openais(new)
    print('Wrote', directory, file=sys.stderr)


def _name_as_openais(directory):
    """Give a directory's checkpoint, model-0, the name that OpenAI's has."""
    for name in os.listdir(directory):
        if name.startswith('model-0.'):
            renamed = name.replace('model-0', 'model.ckpt')
            os.rename(os.path.join(directory, name), os.path.join(directory, renamed))
    rotation.point_to(directory, ['model.ckpt'])
    os.remove(os.path.join(directory, 'counter'))
