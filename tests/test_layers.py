"""Imports point downwards, and no file outgrows its page. A new module gets its layer here."""

import ast
import pathlib
import subprocess
import sys

import pytest

SRC = pathlib.Path(__file__).parent.parent / 'src'
FILES = sorted(path for path in SRC.glob('*.py') if path.stem != '__init__')

LAYERS = [
    'encoder text_files tables token_files processes flags model_directory events schedule packing'
    ' suffix_automaton',
    'litert model sample accumulate memory_saving_gradients optimizer fused_loss memory lora'
    ' distribution windows dropout cloze check_overlap',
    'checkpoint dataset_config sample_config lean_attention layerwise progress beam litert_graph',
    'load_dataset train_config controls sample_numpy architecture lean_block export',
    'engines speculative small_model likelihood run_directory train_encoder',
    'token_logprobs generation validation train_step',
    'evaluate training_loop',
    'training',
    'interactive_conditional_samples generate_unconditional_samples __main__',
]
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer.split()}

WITHOUT_TENSORFLOW = """
    encoder text_files tables token_files processes load_dataset flags model_directory
    dataset_config train_config sample_config litert sample_numpy engines generation packing
    suffix_automaton cloze check_overlap evaluate train_encoder __main__
""".split()


def imports(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers(path):
    relative = [node for node in imports(path) if getattr(node, 'level', 0)]
    siblings = {node.module or alias.name for node in relative for alias in node.names}
    upward = {name for name in siblings if LAYER_OF[name] >= LAYER_OF[path.stem]}
    assert not upward, f'{path} (layer {LAYER_OF[path.stem]}) imports {sorted(upward)}'


@pytest.mark.parametrize('stem', WITHOUT_TENSORFLOW)
def test_what_needs_no_tensorflow_does_not_load_it(stem):
    program = f'import sys, src.{stem}; sys.exit("tensorflow" in sys.modules)'
    subprocess.run([sys.executable, '-c', program], cwd=SRC.parent, check=True)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_files_and_functions_keep_their_budget(path):
    text = path.read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            explained = len((ast.get_docstring(node) or '').splitlines())
            assert node.end_lineno - node.lineno - explained < 60, f'{node.name} is too long'
