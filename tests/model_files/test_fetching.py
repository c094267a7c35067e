"""What stands between a file and us is told as what it is: certificates, proxies, refusals.

How a file is fetched on from where it was cut off, test_download.py has.
"""

import hashlib
import http.server
import socket
import ssl
import subprocess
import threading

import file_server
import pytest

from src.model_files import fetching

CONTENT = b'what is in the file'


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No settings of this machine's, and no waiting."""
    monkeypatch.setattr(fetching, 'WAITS', (0,))
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with file_server.serving() as server:
        server.files = {'file': CONTENT}
        yield server


@pytest.fixture(scope='module')
def certificate(tmp_path_factory):
    """A file with a certificate that nobody but itself has signed, and its key."""
    path = tmp_path_factory.mktemp('certificate') / 'own.pem'
    command = 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
    command += f' -subj /CN=test -addext subjectAltName=IP:127.0.0.1 -out {path} -keyout {path}.key'
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    path.write_text(path.read_text() + path.with_name('own.pem.key').read_text())
    return path


@pytest.fixture
def encrypted(server, certificate):
    """The same server; its origin is https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.origin = server.origin.replace('http:', 'https:')
    return server


def told(tmp_path, url, kind=OSError, **options):
    """What is said of a file that does not come; nothing of it is left."""
    with pytest.raises(kind) as error:
        fetching.fetch(url, str(tmp_path / 'file'), 100, **options)
    assert str(error.value).isprintable() and url in str(error.value)
    assert not list(tmp_path.iterdir())
    return str(error.value)


def test_a_certificate_that_nobody_signed(encrypted, certificate, tmp_path, monkeypatch):
    url = f'{encrypted.origin}/file'
    said = told(tmp_path, url, fetching.ServerError)
    assert ': the certificate of the server is refused: self-signed certificate. ' in said
    assert said.endswith('name the file of that: REQUESTS_CA_BUNDLE') and encrypted.asked == []
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', str(certificate))  # as it says
    fetching.fetch(url, str(tmp_path / 'file'), 100)
    assert (tmp_path / 'file').read_bytes() == CONTENT


def test_a_certificate_of_another_server(encrypted, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', str(certificate))
    url = f'{encrypted.origin}/file'.replace('127.0.0.1', 'localhost')
    assert "is refused: Hostname mismatch, certificate is not valid for 'localhost'" in told(
        tmp_path, url
    )


def test_a_server_that_does_not_encrypt(server, tmp_path):
    url = f'{server.origin}/file'.replace('http:', 'https:')
    said = told(tmp_path, url, fetching.ServerError)
    assert ': no encrypted connection to the server: ' in said and 'certificate' not in said


def test_a_connection_that_is_cut_before_it_is_encrypted_is_tried_again(tmp_path, capsys):
    with socket.create_server(('127.0.0.1', 0)) as listening:

        def hang_up():
            for _ in range(2):
                connection, _ = listening.accept()
                connection.recv(10_000)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        said = told(tmp_path, f'https://127.0.0.1:{listening.getsockname()[1]}/file')
        thread.join()
    assert 'cannot be reached, or was cut off. Later, the same command goes on' in said
    assert capsys.readouterr().err.count('trying again') == 1


class Proxy(http.server.BaseHTTPRequestHandler):
    """It wants a password, and none is right."""

    def do_GET(self):
        self.send_error(407)

    do_CONNECT = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_a_proxy_that_wants_a_password(tmp_path, monkeypatch, scheme):
    with file_server.serving(handler=Proxy) as proxy:
        monkeypatch.setenv(f'{scheme}_proxy', proxy.origin.replace('//', '//me:hidden@'))
        said = told(tmp_path, f'{scheme}://127.0.0.1:9/file')
    assert 'the proxy that https_proxy or http_proxy names fails: ' in said
    assert '407 Proxy Authentication Required; its address has room for' in said
    assert 'hidden' not in said


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_a_proxy_that_is_not_there(tmp_path, monkeypatch, scheme):
    monkeypatch.setenv(f'{scheme}_proxy', 'http://127.0.0.1:9')
    said = told(tmp_path, f'{scheme}://127.0.0.1:8/file')
    assert 'the proxy that https_proxy or http_proxy names fails: ' in said
    assert 'Connection refused' in said


@pytest.mark.parametrize('code, reason', [(401, 'Unauthorized'), (403, 'Forbidden')])
def test_who_may_not_have_it_is_told(server, tmp_path, code, reason):
    server.faults = {'file': [{'status': code}]}
    url = f'{server.origin}/file'
    assert told(tmp_path, url, fetching.Refused) == f'{url} is refused: {code} {reason}'


def test_a_token_is_given_to_its_server_alone(server, tmp_path):
    with file_server.serving() as other:
        other.files = {'file': CONTENT}
        server.faults = {'file': [{'redirect': f'{other.origin}/file'}]}
        fetching.fetch(f'{server.origin}/file', str(tmp_path / 'file'), 100, token='hidden')
        assert (tmp_path / 'file').read_bytes() == CONTENT
        assert (server.tokens, other.tokens) == (['Bearer hidden'], [None])


def test_a_file_of_the_right_size_and_the_wrong_sum_is_fetched_again(server, tmp_path):
    sha256 = hashlib.sha256(b'true').hexdigest()
    (tmp_path / 'file').write_bytes(bytes(len(CONTENT)))
    with pytest.raises(fetching.ServerError, match=f'sends a file whose sha256 is not {sha256}'):
        fetching.fetch(f'{server.origin}/file', str(tmp_path / 'file'), 100, sha256)
    assert (tmp_path / 'file').read_bytes() == bytes(len(CONTENT))
    server.files['file'] = b'true'
    fetching.fetch(f'{server.origin}/file', str(tmp_path / 'file'), 100, sha256)
    assert (tmp_path / 'file').read_bytes() == b'true' and len(server.asked) == 2
    fetching.fetch(f'{server.origin}/file', str(tmp_path / 'file'), 100, sha256)
    assert len(server.asked) == 2
