import pytest

from src.training import schedule, train_config


def rates(steps, **flags):
    config = train_config.TrainConfig(dataset='x', steps=10, learning_rate=1.0, **flags)
    return [schedule.learning_rate(step, 10, config) for step in steps]


def test_without_a_schedule_it_stays():
    assert rates([1, 5, 10]) == [1, 1, 1]


def test_it_rises_in_a_line_and_stays():
    assert rates([1, 2, 4, 5, 10], warmup_steps=4) == [0.25, 0.5, 1, 1, 1]


@pytest.mark.parametrize('kind', ['linear', 'cosine'])
def test_its_corner_points(kind):
    # up to step 2; half way between it and the last, 10, is step 6
    at = rates([1, 2, 6, 10, 11], schedule=kind, warmup_steps=2, min_learning_rate=0.2)
    assert at == pytest.approx([0.5, 1, 0.6, 0.2, 0.2])


def test_linear_and_cosine_differ_at_a_quarter():
    assert rates([4], schedule='linear', warmup_steps=2) == [0.75]
    assert rates([4], schedule='cosine', warmup_steps=2) == [pytest.approx((1 + 0.5**0.5) / 2)]


def test_a_schedule_has_to_know_its_end():
    with pytest.raises(ValueError, match='--schedule cosine has to know its end: --steps'):
        train_config.TrainConfig(dataset='x', schedule='cosine')


def test_a_schedule_does_not_end_above_its_beginning():
    options = {'dataset': 'x', 'learning_rate': 1e-5, 'min_learning_rate': 2e-5, 'steps': 9}
    with pytest.raises(ValueError, match='--min_learning_rate is 2e-05; it must be 1e-05, or less'):
        train_config.TrainConfig(schedule='linear', **options)
    train_config.TrainConfig(**options)  # of which a constant one knows nothing
