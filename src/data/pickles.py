"""Pickles of other programs, read without running what they name.

A pickle is a program: it may call any function of any module. Here it can name only what it is
given for these names; with any other the reading ends.
"""

import io
import pickle
import pickletools

from ..command_line import escaping

LARGEST = 2**24  # bytes: of all Unicode, a meta.pkl has a fifth of it


def load(file, path, known=(), persistent_load=None):
    """The object of the next pickle in an open file, whose place is behind it then.

    Args:
        path: how errors call the file.
        known: {'module.name': what it stands for}.
        persistent_load: called with what the pickle says of an object that lies outside of it.

    Raises ValueError: it names something else, or it is damaged, or no pickle.
    """
    start = file.tell()
    pickled = io.BytesIO(file.read(LARGEST))  # whatever sizes it tells
    try:
        for opcode, argument, place in pickletools.genops(pickled):
            if 'PUT' in opcode.name and argument > place:  # would make room for as many objects
                raise ValueError('it remembers more than it has')
        file.seek(start + pickled.tell())
        pickled.seek(0)
        return _Unpickler(pickled, dict(known), persistent_load).load()
    except Named as error:
        name = escaping.told(str(error))
        raise ValueError(
            f'{path} is a pickle that would run {name}, and is not read: it may be anything'
        ) from None
    except Exception as error:  # what is damaged may raise nearly anything
        raise ValueError(f'{path} is damaged, or no such file: {error!r:.200}') from None


class Named(Exception):
    """A name that is not known."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, known, persistent_load):
        super().__init__(file)
        self.known = known
        if persistent_load:
            self.persistent_load = persistent_load

    def find_class(self, module, name):
        if f'{module}.{name}' not in self.known:
            raise Named(f'{module}.{name}')
        return self.known[f'{module}.{name}']
