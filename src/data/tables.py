"""Tables to texts: each row of a .csv, .tsv, .jsonl or .json, or each line of a text, by itself.

A text is a pair here, (prompt, rest). The prompt is what is not learnt; mostly it is empty.
"""

import itertools
import json
import string
import sys

import tqdm

from . import delimited, json_rows

KINDS = ('.csv', '.tsv', '.jsonl')
# Characters of a field, a line or a value of JSON. A quote that is never closed would take in all
# that follows, and a line without end the memory.
LONGEST = 2**24
FEW = 5  # ways of reading tables that are told


def in_rows(name, config):
    """Whether the file `name` has a text in each row, or in each line.

    Raises ValueError: it has no columns, but `config` names some.
    """
    if name.lower().endswith((*KINDS, *json_rows.KINDS)):
        return True
    for flag in ('column', 'template'):
        if getattr(config, flag):
            raise ValueError(f'--{flag} is for tables, {", ".join(KINDS)}; {name} is none')
    return config.line_by_line


def texts_of(name, blocks, config, told=None):
    """(prompt, rest) of each row of the file `name`, of which `blocks` are the text, in turn.

    `start_token` and `end_token` are put around each. Rows without text are left out.

    Args:
        config: a dataset_config.DatasetConfig.
        told: a Told, which learns how the table is read.

    Raises ValueError: a row that cannot be read, or has not the columns that are wanted; the
    message names the file and the row. The first row, 1, is the header of a .csv or .tsv.
    """
    told = told or Told()
    template = config.template and parsed(config.template)
    records, text_column = _records(name, blocks, config, told)
    told.tables += 1
    number = None
    for number, record in records:
        parts, tail = template or ([('', config.column or text_column)], '')
        values = [_value(name, number, record, column) for _, column in parts]
        if not any(value.strip() for value in values):
            told.empty += 1
            continue
        told.rows += 1
        *before, last = itertools.chain(
            *zip((literal for literal, _ in parts), values, strict=True)
        )
        prompt, rest = config.start_token + ''.join(before), last + tail + config.end_token
        yield (prompt, rest) if config.loss_on == 'completion' else ('', prompt + rest)
    if number is None and text_column and name.lower().endswith(delimited.KINDS):
        told.alone.append(name)


def parsed(template):
    """'{a}: {b}.' -> ([('', 'a'), (': ', 'b')], '.'): the columns, each with what is before it.

    Raises ValueError: no columns, or braces that name none.
    """
    parts, literal = [], ''
    fields = string.Formatter().parse(template.replace('\\n', '\n'))
    try:
        for text, column, spec, conversion in fields:
            literal += text
            if column is not None:
                if not column or spec or conversion:
                    raise ValueError('in braces there is the name of a column')
                parts.append((literal, column))
                literal = ''
        if not parts:
            raise ValueError('it names no column')
    except ValueError as error:
        raise ValueError(
            f'--template is {template!r}: {error}. It should be like "{{title}}\\n{{body}}", with '
            '{{ and }} for braces themselves'
        ) from None
    return parts, literal


def lines(blocks, name='text'):
    """Blocks of text -> its lines, each with the '\\n' at its end.

    Raises ValueError: one that would fill the memory; errors call the text `name`.
    """
    held, size = [], 0
    for block in blocks:
        *whole, rest = block.split('\n')
        for line in whole:
            yield ''.join([*held, line, '\n'])
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > LONGEST:
            raise ValueError(f'{name} has a line of more than {LONGEST:,} characters; break it')
    if any(held):
        yield ''.join(held)


def _records(name, blocks, config, told):
    """(number, {column: value}) of each row, and the column that is read if nobody names one.

    A text has a record of each line, with the one column `line`.
    """
    if name.lower().endswith(delimited.KINDS):
        layout, records = delimited.read(name, lines(blocks, name), config, LONGEST)
        if layout:
            told.layout(name, layout, config)
        return records, layout and layout.text_column
    if name.lower().endswith('.json'):
        return json_rows.of_values(name, blocks, LONGEST), 'text'
    if name.lower().endswith(json_rows.KINDS):
        return json_rows.of_lines(name, lines(blocks, name)), 'text'
    found = lines(blocks, name)
    return enumerate(({'line': line.removesuffix('\n')} for line in found), 1), 'line'


class Told:
    """What is said of tables on stderr: how they are read, and how many rows."""

    def __init__(self):
        self.ways = set()
        self.tables = self.rows = self.empty = 0
        self.alone = []  # tables that have nothing but a header

    def layout(self, name, layout, config):
        """Say how a table is read, if that is another way than those before."""
        way = layout.told(name)
        if not config.template:
            way += f'; {config.column or layout.text_column!r} is read'
        if layout.header:
            way += f'. If row {layout.header} is a text: --no_header'
        if way not in self.ways and len(self.ways) < FEW:
            say(f'{name}: {way}')
        self.ways.add(way)

    def end(self):
        """Say how many rows there were, if there were any."""
        if self.alone:
            say(
                f'{len(self.alone):,} of {self.tables:,} tables have names of columns alone, as '
                f'{self.alone[0]}. If these are texts: --no_header'
            )
        if self.tables:
            empty = f'; {self.empty:,} without text are left out' * bool(self.empty)
            many = f', of {self.tables:,} tables' * (self.tables > 1)
            say(f'{self.rows:,} rows are read{many}{empty}')


def say(line):
    tqdm.tqdm.write(line, file=sys.stderr)  # above a bar that is being drawn


def _value(name, number, record, column):
    """A text; null is none, ''."""
    if column not in record:
        as_text = ', or name it .txt to read it as it is' * name.lower().endswith('.json')
        raise ValueError(
            f'{name}: row {number} has no column {column!r}, but {delimited.listed(list(record))}. '
            f'Choose with --column or --template{as_text}'
        )
    value = record[column]
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f'{name}: row {number} has {json.dumps(value)[:40]} as {column!r}; it must be text or '
            'a number'
        )
    return value or ''
