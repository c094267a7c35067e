"""Tables to texts: each row of a .csv, .tsv or .jsonl, or each line of a text, by itself.

A text is a pair here, (prompt, rest). The prompt is what is not learnt; mostly it is empty.
"""

import csv
import itertools
import json
import string

KINDS = ('.csv', '.tsv', '.jsonl')
# Characters of a field: a quote that is never closed would take in all that follows.
LONGEST = 2**24


def in_rows(name, config):
    """Whether the file `name` has a text in each row, or in each line.

    Raises ValueError: it has no columns, but `config` names some.
    """
    if name.lower().endswith(KINDS):
        return True
    for flag in ('column', 'template'):
        if getattr(config, flag):
            raise ValueError(f'--{flag} is for tables, {", ".join(KINDS)}; {name} is none')
    return config.line_by_line


def texts_of(name, blocks, config):
    """(prompt, rest) of each row of the file `name`, of which `blocks` are the text, in turn.

    `start_token` and `end_token` are put around each. Rows without text are left out.

    Args:
        config: a dataset_config.DatasetConfig.

    Raises ValueError: a row that cannot be read, or has not the columns that are wanted; the
    message names the file and the row. The first row, 1, is the header of a .csv or .tsv.
    """
    template = config.template and parsed(config.template)
    for number, record in _records(name, lines(blocks)):
        parts, tail = template or ([('', config.column or _text_column(name, record))], '')
        values = [_value(name, number, record, column) for _, column in parts]
        if not any(value.strip() for value in values):
            continue
        *before, last = itertools.chain(
            *zip((literal for literal, _ in parts), values, strict=True)
        )
        prompt, rest = config.start_token + ''.join(before), last + tail + config.end_token
        yield (prompt, rest) if config.loss_on == 'completion' else ('', prompt + rest)


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


def lines(blocks):
    """Blocks of text -> its lines, each with the '\\n' at its end."""
    held = []
    for block in blocks:
        *whole, rest = block.split('\n')
        for line in whole:
            yield ''.join([*held, line, '\n'])
            held = []
        held.append(rest)
    if any(held):
        yield ''.join(held)


def _records(name, lines):
    """(number, {column: value}) of each row; of a text, each line with the one column `line`."""
    kind = name.lower().rpartition('.')[2]
    if kind == 'jsonl':
        return _json_lines(name, lines)
    if kind in ('csv', 'tsv'):
        return _delimited(name, lines, ',' if kind == 'csv' else '\t')
    return enumerate(({'line': line.removesuffix('\n')} for line in lines), 1)


def _text_column(name, record):
    """The column that is read when nobody names one."""
    return 'text' if name.lower().endswith('.jsonl') else next(iter(record))


def _delimited(name, lines, delimiter):
    csv.field_size_limit(LONGEST)
    header, number = None, 0
    try:
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter, strict=True), 1):
            if header is None and any(row):
                header = _header(name, row)
            elif any(row):
                if len(row) != len(header):
                    raise ValueError(
                        f'{name}: row {number} has {len(row)} fields, but there are {len(header)} '
                        f'columns, {_listed(header)}; it begins with {row[0][:40]!r}'
                    )
                yield number, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(
            f'{name}: row {number + 1} cannot be read: {error}. A field with quotes in it is '
            'quoted, and they are written twice'
        ) from None


def _header(name, row):
    for column in row:
        if column and row.count(column) > 1:
            raise ValueError(f'{name} has two columns named {column!r}; rename one')
    return row


def _json_lines(name, lines):
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:  # numbers are taken as they are written
            record = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            problem = str(error).replace('line 1 column', 'column')
            raise ValueError(f'{name}: row {number} is not JSON: {problem}') from None
        if not isinstance(record, dict):
            raise ValueError(
                f'{name}: row {number} is {line.strip()[:40]}; it must be an object, {{"text": …}}'
            )
        yield number, record


def _value(name, number, record, column):
    """A text; null is none, ''."""
    if column not in record:
        raise ValueError(
            f'{name}: row {number} has no column {column!r}, but {_listed(record)}. Choose with '
            '--column or --template'
        )
    value = record[column]
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f'{name}: row {number} has {json.dumps(value)[:40]} as {column!r}; it must be text or '
            'a number'
        )
    return value or ''


def _listed(columns):
    return ', '.join(map(repr, columns)) or 'none'
