import pytest

from src.data import dataset_config
from src.training import train_config


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'combine': -1}, '--combine is -1; it must be 0 or more'),
        ({'encoding': 'klingon'}, "no encoding 'klingon' for text"),
        ({'encoding': 'hex'}, "no encoding 'hex' for text"),
        ({'template': 'x'}, "--template is 'x': it names no column"),
        ({'template': ''}, "--template is ''"),
        ({'template': '{a}', 'column': 'a'}, 'leave out one'),
        ({'loss_on': 'completion'}, 'last column of a template: --template'),
    ],
)
def test_what_does_not_fit_is_told(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataset_config.DatasetConfig(**options)
    with pytest.raises(ValueError, match=complaint):
        train_config.TrainConfig(dataset='x', **options)


def test_the_options_of_a_dataset_are_those_of_load_dataset():
    config = train_config.TrainConfig(dataset='x', template='{a}', loss_on='completion')
    options = config.dataset_options()
    assert options['template'] == '{a}' and 'dataset' not in options
    assert dataset_config.DatasetConfig(**options).dataset_options() == options
