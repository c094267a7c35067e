"""Imports point one way, between rooms as between files, and no file outgrows its page.

A new file gets its place here first.
"""

import ast
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import ROOT

SRC = ROOT / 'src'

# Rooms with their files, and the files that are in none. Each imports only from what stands before
# it, in this list and in its room.
ORDER = """
    command_line: invocation escaping quiet streams names signature flags
    encoder
    data: processes foreign_bytes text_files delimited json_rows tables dataset_config whole_files
        pickles token_files packing
    load_dataset
    model
    sample
    accumulate
    memory_saving_gradients
    model_files: model_directory fetching download rotation bundle checkpoint architecture
    encoding: train_encoder encode
    gradients: dropout lora masks fused_loss lean_attention lean_block backpropagation small_model
        custom_gradients
    sampling: sample_config endings litert litert_slots sample_numpy controls backends beam
        speculative generation token_logprobs
    evaluation: likelihood cloze suffix_automaton check_overlap evaluate
    training: train_config run_directory schedule optimizer distribution memory events progress
        validation dataset train_step initial_model saving stopping training_loop training
        train
    exporting: litert_weights litert_graph tflite_file export
    serving: refused fields prompts completions cloud_run drawing pieces texts answers slots
        scheduler metrics exchange guard app serve
    converting: portable safetensors_files torch_files vocabularies model_card hugging_face
        nano_gpt gguf_files openai convert hub download_model
    inside: every_layer embeddings contents attention_view
    api: notebook language_model commands
    simple: session downloading datasets finetuning generating drive command_line
    interactive_conditional_samples
    generate_unconditional_samples
    __main__
"""
ROOMS = {}
for room, files in re.findall(r'(\w+)(:(?: +\w+|\n {8}\w+)+)?', ORDER):
    ROOMS[room] = files.strip(':').split()
PLACES = [f'{room}.{file}' for room, files in ROOMS.items() for file in files or ['']]
PLACES = [place.rstrip('.') for place in PLACES]
FILES = sorted(path for path in SRC.rglob('*.py') if path.stem != '__init__')

WITHOUT_TENSORFLOW = """
    command_line data encoder load_dataset encoding model_files.model_directory model_files.download
    sampling.sample_config sampling.litert sampling.litert_slots sampling.sample_numpy
    sampling.backends sampling.generation sampling.token_logprobs evaluation.cloze
    evaluation.suffix_automaton evaluation.check_overlap evaluation.evaluate
    training.train_config training.train exporting.export converting.convert converting.hub
    converting.download_model inside.attention_view serving.scheduler serving.app serving.serve
    simple interactive_conditional_samples generate_unconditional_samples __main__
""".split()


def name_of(path):
    return '.'.join(path.relative_to(SRC).with_suffix('').parts)


def imported(path):
    """The places of ours that a file imports, wherever it does."""
    package = ['src', *path.relative_to(SRC).parent.parts]
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[1 : len(package) + 1 - node.level]
            base += (node.module or '').split('.') if node.module else []
            for alias in node.names:
                place = '.'.join([*base, alias.name])
                yield place if place in PLACES else '.'.join(base)


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_a_file_imports_only_what_stands_before_it(path):
    before = PLACES[: PLACES.index(name_of(path))]
    others = set(imported(path)) - set(before)
    assert not others, f'{path} imports {sorted(others)}'


@pytest.mark.parametrize('room', [room for room, files in ROOMS.items() if files])
def test_the_docstring_of_a_room_is_its_table_of_contents(room):
    tree = ast.parse((SRC / room / '__init__.py').read_text('utf-8'))
    assert len(tree.body) == 1, 'there is code in it'
    listed = re.findall(r'^ *(\w+)  +\S', ast.get_docstring(tree), re.MULTILINE)
    there = [path.stem for path in (SRC / room).glob('*.py') if path.stem != '__init__']
    assert sorted(listed) == sorted(there) == sorted(ROOMS[room])
    assert room in (SRC / '__init__.py').read_text('utf-8')
    assert f'`{room}`' in (ROOT / 'DEVELOPERS.md').read_text('utf-8')


def test_tests_lie_in_the_same_rooms():
    for path in pathlib.Path(ROOT / 'tests').glob('*/test_*.py'):
        file, room = path.stem.removeprefix('test_'), path.parent.name
        assert file in ROOMS[room] or (SRC / room / file).is_dir(), path


@pytest.mark.parametrize('name', WITHOUT_TENSORFLOW)
def test_what_needs_no_tensorflow_does_not_load_it(name):
    files = ROOMS.get(name) or ['']
    names = ', '.join(f'src.{name}.{file}'.rstrip('.') for file in files)
    program = f'import sys, {names}; sys.exit("tensorflow" in sys.modules)'
    subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_files_and_functions_keep_their_budget(path):
    text = path.read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            explained = len((ast.get_docstring(node) or '').splitlines())
            assert node.end_lineno - node.lineno - explained < 60, f'{node.name} is too long'
