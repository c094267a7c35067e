"""Imports point downwards, and no file outgrows its page. A new module gets its layer here."""

import ast
import pathlib

import pytest

SRC = pathlib.Path(__file__).parent.parent / 'src'
FILES = sorted(path for path in SRC.glob('*.py') if path.stem != '__init__')

LAYERS = [
    {'encoder', 'load_dataset', 'model', 'sample', 'accumulate', 'memory_saving_gradients'}
    | {'optimizer', 'events', 'flags', 'model_directory', 'fused_loss', 'schedule', 'memory'}
    | {'lora', 'distribution', 'controls', 'token_logprobs', 'choose_numpy', 'litert'},
    {'checkpoint', 'train_config', 'sample_config', 'lean_attention', 'layerwise', 'progress'}
    | {'beam', 'speculative', 'litert_graph', 'train_encoder'},
    {'generation', 'run_directory', 'architecture', 'lean_block', 'export'},
    {'train_step'},
    {'training_loop'},
    {'training'},
    {'interactive_conditional_samples', 'generate_unconditional_samples', '__main__'},
]
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer}


def imports(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers(path):
    relative = [node for node in imports(path) if getattr(node, 'level', 0)]
    siblings = {node.module or alias.name for node in relative for alias in node.names}
    upward = {name for name in siblings if LAYER_OF[name] >= LAYER_OF[path.stem]}
    assert not upward, f'{path} (layer {LAYER_OF[path.stem]}) imports {sorted(upward)}'


@pytest.mark.parametrize(
    'stem',
    ['encoder', 'load_dataset', 'flags', 'model_directory', 'train_config', 'sample_config']
    + ['litert', 'choose_numpy', '__main__', 'train_encoder'],
)
def test_what_needs_no_tensorflow_does_not_import_it(stem):
    names = {alias.name for node in imports(SRC / f'{stem}.py') for alias in node.names}
    assert 'tensorflow' not in names


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_files_and_functions_keep_their_budget(path):
    text = path.read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            explained = len((ast.get_docstring(node) or '').splitlines())
            assert node.end_lineno - node.lineno - explained < 60, f'{node.name} is too long'
