import numpy as np
import pytest
import tensorflow as tf

from src.training import events


def recorded(directory):
    (path,) = directory.glob('events.out.tfevents.*')
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    return [tf.compat.v1.Event.FromString(record) for record in records]


def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise tf.errors.PermissionDeniedError(None, None, f'{path}; Permission denied')

    monkeypatch.setattr(tf.io, 'TFRecordWriter', refuse)  # root may write everywhere
    with pytest.raises(OSError, match='run is not a folder that may be written into$'):
        events.Writer(str(tmp_path / 'run'))


def test_scalars_are_written_as_tensorflow_1_wrote_them(tmp_path):
    with events.Writer(str(tmp_path / 'run')) as writer:
        writer.add(7, loss=1.5, learning_rate=0.25)
        writer.add(8, loss=np.float32(1.25))
        first, *others = recorded(tmp_path / 'run')  # readable while the run goes on
    assert first.file_version == 'brain.Event:2'
    assert [
        (event.step, value.tag, value.simple_value)
        for event in others
        for value in event.summary.value
    ] == [(7, 'loss', 1.5), (7, 'learning_rate', 0.25), (8, 'loss', 1.25)]
    assert all(event.wall_time >= first.wall_time > 1.6e9 for event in others)


def test_each_writer_has_a_file_of_its_own(tmp_path):
    with events.Writer(str(tmp_path)) as writer, events.Writer(str(tmp_path)) as other:
        assert writer.path != other.path


def test_a_file_that_cannot_be_written_does_not_end_the_run(tmp_path, capsys):
    with events.Writer(str(tmp_path)) as writer:
        writer._records.close()
        writer.add(1, loss=1.0)
    assert f'{writer.path} could not be written' in capsys.readouterr().err


def test_texts_are_shown_by_the_text_plugin(tmp_path):
    with events.Writer(str(tmp_path)) as writer:
        writer.add_texts(3, samples=['Grüße\n', '漢字'])
        _, event = recorded(tmp_path)
    (value,) = event.summary.value
    assert (event.step, value.tag) == (3, 'samples')
    assert value.metadata.plugin_data.plugin_name == 'text'
    assert [t.decode() for t in tf.make_ndarray(value.tensor)] == ['Grüße\n', '漢字']
