"""Tables as text, text as tokens."""

import pathlib

import numpy as np
import pytest
from conftest import TEXT

from src import encoder
from src.simple import datasets

TABLE = 'text\n"A short, one"\nSecond "line"\n\n"two\nlines"\n'
ENCODED = (  # by gpt-2-simple 0.8.1, which ends at an empty row
    '<|startoftext|>A short, one<|endoftext|>\n<|startoftext|>Second "line"<|endoftext|>\n'
    '<|startoftext|>two\nlines<|endoftext|>\n'
)


@pytest.fixture
def table(place):
    path = pathlib.Path('rows.csv')
    path.write_text(TABLE)
    return path


def test_a_table_is_written_as_gpt_2_simple_writes_it(table):
    datasets.encode_csv(table)
    assert pathlib.Path('csv_encoded.txt').read_text() == ENCODED
    options = {'header': False, 'start_token': '<', 'end_token': '>'}
    datasets.encode_csv('rows.csv', out_path='out', **options)
    assert (
        pathlib.Path('out').read_text() == '<text>\n<A short, one>\n<Second "line">\n<two\nlines>\n'
    )
    pathlib.Path('rows').write_text(TABLE)
    datasets.encode_csv('rows', out_path='out')
    assert pathlib.Path('out').read_text() == ENCODED


def test_only_commas_are_between_columns_and_options_say_the_rest(table):
    table.write_text('sep=;\nRoses are red | violets; are blue\nSugar\tis sweet | and; so\n')
    datasets.encode_csv(table, header=False, start_token='', end_token='')
    assert pathlib.Path('csv_encoded.txt').read_text() == table.read_text()
    table.write_bytes('id;caf\xe9\n1;"Oui" dit-il\n2;Non\n'.encode('latin-1'))
    options = {'delimiter': ';', 'encoding': 'latin-1', 'quoting': 'none', 'column': 'caf\xe9'}
    datasets.encode_csv(table, start_token='', end_token='', **options)
    assert pathlib.Path('csv_encoded.txt').read_text() == '"Oui" dit-il\nNon\n'
    datasets.encode_dataset(table, model_name='tiny', **{**options, 'column': 'id'})
    said = encoder.get_encoder('tiny').decode(np.load('text_encoded.npz')['arr_0'])
    assert said == ''.join(f'<|startoftext|>{i}<|endoftext|>\n' for i in (1, 2))
    with pytest.raises(ValueError, match="no option 'colum'. Did you mean column"):
        datasets.encode_csv(table, colum='id')


def test_what_cannot_be_read_leaves_what_was_there(table):
    pathlib.Path('csv_encoded.txt').write_text('mine')
    table.write_text('text\na row\nwith, a comma\n')
    with pytest.raises(ValueError, match='rows.csv: row 3 has 2 fields'):
        datasets.encode_csv('rows.csv')
    assert pathlib.Path('csv_encoded.txt').read_text() == 'mine'
    with pytest.raises(ValueError, match='rows.csv is the table itself'):
        datasets.encode_csv('rows.csv', './rows.csv')
    with pytest.raises(OSError, match='none.csv'):
        datasets.encode_csv('none.csv')


def test_a_table_and_its_text_are_the_same_tokens(table, capsys):
    table.write_text('text\nA one\nAnother\n')
    datasets.encode_csv(table)
    for path in ('rows.csv', 'csv_encoded.txt', 'text'):
        datasets.encode_dataset(path, model_name='tiny', out_path=f'{path}.npz', combine=1)
    tokens = {path: np.load(f'{path}.npz')['arr_0'] for path in ('rows.csv', 'csv_encoded.txt')}
    np.testing.assert_array_equal(*tokens.values())
    enc = encoder.get_encoder('tiny')
    assert np.load('text.npz')['arr_0'].tolist() == enc.encode(TEXT)
    assert 'Reading files\nWriting text.npz\n' in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match='There is no models/9M'):
        datasets.encode_dataset('text', model_name='9M')
