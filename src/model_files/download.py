"""OpenAI's files to a model directory."""

import os
import sys

from . import fetching, model_directory

DATA = 'model.ckpt.data-00000-of-00001'
FILES = [
    'checkpoint',
    'encoder.json',
    'hparams.json',
    DATA,
    'model.ckpt.index',
    'model.ckpt.meta',
    'vocab.bpe',
]

# What is known of OpenAI's files. The vocabulary is in tests/vocabulary; `checkpoint` names
# model.ckpt twice; the data are the parameters as float32, in bytes.
SHA256 = {
    'checkpoint': 'dd1b025d2e155283f5e300ce95bf6d5b6bc0f7fe010db73daa6975eb896ab9cb',
    'encoder.json': '196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783',
    'vocab.bpe': '1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5',
}
DATA_SIZES = {
    '124M': 4 * 124_439_808,
    '355M': 4 * 354_823_168,
    '774M': 4 * 774_030_080,
    '1558M': 4 * 1_557_611_200,
}

BASE_URL = 'https://openaipublic.blob.core.windows.net/gpt-2/'
LARGEST = 2**28  # bytes of a file of an unknown model: 256 MiB, and
LARGEST_DATA = 2**35  # 32 GiB of weights
SIZES = ', '.join(model_directory.SIZES)


def download(name, models_dir, base_url):
    """Fetch the files of a model into models_dir/name; where it is unknown, under its other name.

    Raises OSError: ServerError where one of them is not to be had, or it cannot be written.
    """
    directory = os.path.join(models_dir, name)
    os.makedirs(directory, exist_ok=True)
    base = f'{base_url.rstrip("/")}/models'
    try:
        fetch_all(f'{base}/{name}', directory, name)
    except fetching.Absent as error:
        if name not in model_directory.ALIASES:
            raise fetching.Absent(f'{error}; the models are {SIZES}') from None
        other = model_directory.ALIASES[name]
        print(f'There is no {base}/{name}; trying its other name, {other}', file=sys.stderr)
        fetch_all(f'{base}/{other}', directory, name)
    finally:
        if not os.listdir(directory):
            os.rmdir(directory)


def fetch_all(url, directory, name):
    known_size = size_of(name)
    for file in FILES:
        sha256 = SHA256.get(file) if known_size else None
        size = known_size if file == DATA else None
        fetching.fetch(f'{url}/{file}', os.path.join(directory, file), most(file), sha256, size)


def size_of(name):
    """The bytes of the weights of one of OpenAI's models, by either of its names, or None."""
    return DATA_SIZES.get(name) or DATA_SIZES.get(model_directory.ALIASES.get(name))


def most(file):
    """How many bytes a file of an unknown model may have."""
    return LARGEST_DATA if file == DATA else LARGEST
