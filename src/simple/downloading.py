"""OpenAI's files, by gpt-2-simple's names."""

import os

from ..api import commands
from ..model_files import download, fetching


def download_gpt2(model_dir='models', model_name='124M'):
    """Fetch a model of OpenAI's into model_dir/model_name; what is whole already is left alone.

    Raises:
        ValueError: this cannot be the name of a model.
        OSError: the server does not have it, or it cannot be written.
    """
    commands.download(model_name, model_dir)


def is_gpt2_downloaded(model_dir='models', model_name='124M'):
    """Whether all seven files are there. One that was cut off has another name."""
    directory = os.path.join(model_dir, model_name)
    return all(os.path.isfile(os.path.join(directory, name)) for name in download.FILES)


def download_file_with_progress(url_base, sub_dir, model_name, file_name):
    """Fetch one file, url_base/models/model_name/file_name, into the folder `sub_dir`."""
    url = f'{url_base.rstrip("/")}/models/{model_name}/{file_name}'
    fetching.fetch(url, os.path.join(sub_dir, file_name), download.most(file_name))
