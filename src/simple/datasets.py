"""A table as text, and text as tokens."""

import os

import tqdm

from ..command_line import flags
from ..data import dataset_config, delimited, tables, text_files, whole_files
from ..encoding import encode
from ..model_files import model_directory
from . import session

# Rows of a .csv as gpt-2-simple reads them: only a comma is between columns, and a line break is
# behind the end, so that a run goes on with the text that it has learnt.
ROWS = {'delimiter': ',', 'end_token': '<|endoftext|>\n'}


def encode_csv(
    csv_path,
    out_path='csv_encoded.txt',
    header=True,
    start_token='<|startoftext|>',
    end_token='<|endoftext|>',
    **options,
):
    """Write the texts of a table with one column, each between two tokens, and a line break.

    Args:
        header: whether the first row is the name of the column.
        options: other flags of `gpt2 encode` for tables: encoding, quoting, column, delimiter, …

    Raises:
        ValueError: what cannot be read; the message names the row.
        OSError: a file cannot be read or written; what had that name before is still there.
    """
    csv_path, told = os.fspath(csv_path), tables.Told()
    if os.path.realpath(csv_path) == os.path.realpath(out_path):
        raise ValueError(f'{out_path} is the table itself; write the texts elsewhere')
    tokens = {'start_token': start_token, 'end_token': end_token}
    config = flags.filled(
        dataset_config.DatasetConfig, {**ROWS, 'no_header': not header, **tokens, **options}
    )
    with whole_files.complete(out_path) as file, tqdm.tqdm(disable=True) as progress:
        for name, blocks in text_files.texts_of(csv_path, config.encoding, progress):
            is_table = name.lower().endswith(delimited.KINDS)
            name = name if is_table else f'{name}, read as .csv'
            for _, text in tables.texts_of(name, blocks, config, told):
                file.write(f'{text}\n'.encode())
    told.end()


def encode_dataset(
    file_path,
    model_dir='models',
    out_path='text_encoded.npz',
    model_name='124M',
    combine=50000,
    **options,
):
    """Write the tokens of text, with a model's vocabulary, for finetune.

    Args:
        file_path: a file, a directory or a glob pattern.
        combine: shorter files, in characters, are joined.
        options: the other flags of `gpt2 encode`: encoding, column, …

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: no text, or not text in UTF-8.
        OSError: a file cannot be read or written; what had that name before is still there.
    """
    directory = session.find(model_name, model_dir, model_directory.VOCABULARY)
    given = {
        'path': os.fspath(file_path),
        'out_npz': os.fspath(out_path),
        'model_name': directory,
        'models_dir': model_dir,
        'combine': combine,
    }
    encode.encode(flags.filled(encode.EncodeConfig, {**given, **ROWS, **options}))
