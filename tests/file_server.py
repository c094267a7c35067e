"""A server of files on this machine that misbehaves as it is told."""

import collections
import contextlib
import http.server
import re
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves server.files, with server.faults: {file: [what goes wrong in each request, …]}."""

    def do_GET(self):
        name = self.path.rpartition('/')[2]
        self.server.tokens.append(self.headers.get('Authorization'))
        self.server.asked.append((self.path, self.headers.get('Range')))
        if self.server.token and self.headers.get('Authorization') != f'Bearer {self.server.token}':
            return self.send_error(401)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else {}
        content = self.server.files.get(self.path.removeprefix(self.server.root))
        if 'redirect' in fault:
            self.send_response(302)
            self.send_header('Location', fault['redirect'])
            self.send_header('Content-Length', '0')
            return self.end_headers()
        if content is None or 'status' in fault:
            return self.send_error(fault.get('status', 404))
        etag = fault.get('etag', '"1"')
        body, status = content, 200
        asked = re.match(r'bytes=(\d+)-', self.headers.get('Range') or '')
        if asked and self.headers.get('If-Range') == etag and not fault.get('ignore range'):
            start = int(asked[1])
            body, status = content[start:], 206
        body = fault.get('body', body)
        self.send_response(status)
        if not fault.get('no length'):
            self.send_header('Content-Length', fault.get('length', str(len(body))))
        if status == 206:
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        if etag:
            self.send_header('ETag', etag)
        if 'md5' in fault:
            self.send_header('Content-MD5', fault['md5'])
        self.end_headers()
        sent = body[: fault.get('cut', len(body))]
        self.server.sent[name] += len(sent)
        with contextlib.suppress(ConnectionError):  # who asked had enough
            self.wfile.write(sent)
        if 'hang' in fault:
            self.wfile.flush()
            fault['hang'].wait(20)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(root='/', handler=Handler):
    """The server of `files`, {path behind the root: content}, for those who have its token.

    asked and tokens have what was asked for, and with what Authorization.
    """
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.root, server.files, server.faults, server.token = root, {}, {}, None
        server.asked, server.tokens, server.sent = [], [], collections.Counter()
        server.origin = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
