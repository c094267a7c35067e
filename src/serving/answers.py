"""What completions are answered with, as OpenAI's API has it: what texts told, to JSON."""

import json
import time
import uuid

# Besides those of ASCII: some readers of streams end a line there.
LINE_ENDS = {ord(end): f'\\u{ord(end):04x}' for end in '\x85\u2028\u2029'}


class Answer:
    """What all JSON of one answer has in common.

    Args:
        request: a completions.Request.
        model_name, fingerprint: what is told of the model.
    """

    def __init__(self, request, model_name, fingerprint):
        self.request = request
        self.common = {
            'id': f'cmpl-{uuid.uuid4().hex}',
            'object': 'text_completion',
            'created': int(time.time()),
            'model': model_name,
            'system_fingerprint': fingerprint,
        }

    def whole(self, pieces, ends):
        """The JSON of an answer that is not streamed.

        Args:
            pieces: of each text a list of what it told; `best_of` texts for each prompt.
            ends: {number of a text: its End}.
        """
        request, choices = self.request, []
        for prompt in range(len(request.prompts)):
            numbers = range(prompt * request.best_of, (prompt + 1) * request.best_of)
            if request.best_of > request.n:
                numbers = sorted(numbers, key=lambda i: -ends[i].logprob)
            for i in list(numbers)[: request.n]:
                text = ''.join(piece.text for piece in pieces[i])
                entries = [entry for piece in pieces[i] for entry in piece.entries]
                choices.append(self._choice(len(choices), text, entries, ends[i].reason))
        return {**self.common, 'choices': choices, 'usage': usage(request, ends.values())}

    def chunk(self, index, piece=None, reason=None):
        """The JSON of one event of a stream: a Piece of the text `index`, or why it ended."""
        text, entries = piece or ('', [])
        choice = self._choice(index, text, entries, reason)
        usage = {'usage': None} if self.request.include_usage else {}
        return {**self.common, 'choices': [choice], **usage}

    def last_chunk(self, ends):
        """The JSON of the event with the usage."""
        return {**self.common, 'choices': [], 'usage': usage(self.request, ends.values())}

    def _choice(self, index, text, entries, reason):
        wanted = entries or not self.request.stream
        if self.request.settings.logprobs is None:
            wanted = False
        logprobs = logprobs_of(entries) if wanted else None
        return {'text': text, 'index': index, 'logprobs': logprobs, 'finish_reason': reason}


def logprobs_of(entries):
    """What pieces.Entry tells of tokens; offsets count from the beginning of the prompt."""
    return {
        'tokens': [entry.text for entry in entries],
        'token_logprobs': [entry.logprob for entry in entries],
        'top_logprobs': [entry.top for entry in entries],
        'text_offset': [entry.offset for entry in entries],
    }


def usage(request, ends):
    prompt, drawn = sum(map(len, request.prompts)), sum(end.tokens for end in ends)
    return {
        'prompt_tokens': prompt,
        'completion_tokens': drawn,
        'total_tokens': prompt + drawn,
    }


def models(*told):
    """The JSON of GET /v1/models, where there is one."""
    return {'object': 'list', 'data': [model(*told)]}


def model(name, created, n_ctx, max_tokens):
    """n_ctx, the tokens of a prompt and a text together, has the name that vLLM gives it."""
    told = {'id': name, 'object': 'model', 'created': created, 'owned_by': 'local'}
    return {**told, 'max_model_len': n_ctx, 'max_tokens': max_tokens}


def text(value):
    """JSON on one line, whatever ends lines; letters of all languages stand for themselves."""
    told = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    return told.translate(LINE_ENDS)
