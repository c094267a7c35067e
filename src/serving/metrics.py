"""What /metrics tells Prometheus."""

import prometheus_client

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Counters of one server."""

    def __init__(self):
        self.registry = prometheus_client.CollectorRegistry()
        options = {'namespace': 'gpt2', 'registry': self.registry}
        self.requests = prometheus_client.Counter(
            'requests', 'Requests that were answered', ['path', 'status'], **options
        )
        self.prompt_tokens = prometheus_client.Counter(
            'prompt_tokens', 'Tokens of prompts', **options
        )
        self.tokens = prometheus_client.Counter('tokens', 'Tokens that were drawn', **options)
        self.first = prometheus_client.Histogram(
            'time_to_first_token_seconds',
            'From the request to the first token of each text',
            buckets=SECONDS,
            **options,
        )
        self.rate = prometheus_client.Histogram(
            'tokens_per_second',
            'Of each text, from its first token to its last',
            buckets=RATES,
            **options,
        )

    def watch(self, scheduler):
        """Let it tell how many texts a Scheduler has."""
        options = {'namespace': 'gpt2', 'registry': self.registry}
        waiting = prometheus_client.Gauge('texts_waiting', 'Texts in the queue', **options)
        waiting.set_function(lambda: scheduler.waiting)
        running = prometheus_client.Gauge('texts_running', 'Texts that are worked on', **options)
        running.set_function(lambda: len(scheduler.running))

    def add(self, text):
        """Count a Text, however it ended."""
        if text.first is None:
            return
        self.tokens.inc(text.drawn)
        self.first.observe(text.first - text.begun)
        if text.ended and text.drawn > 1 and text.ended > text.first:
            self.rate.observe((text.drawn - 1) / (text.ended - text.first))

    def text(self):
        """(what is told, its content type)."""
        told = prometheus_client.generate_latest(self.registry)
        return told, prometheus_client.CONTENT_TYPE_LATEST
