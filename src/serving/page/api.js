/** The server's API: what is asked, what streams in, and errors as sentences. */

const KEY = 'api_key'; // its name in sessionStorage

/** The server's model: its name, and how many tokens a text of it may have. */
export async function modelOfServer() {
  const answer = await call('v1/models');
  const { id, max_tokens: longest } = (await answer.json()).data[0];
  return { name: id, longest };
}

/**
 * Events of the stream of POST /v1/completions, each the object that OpenAI's API describes.
 * Throws Error with a sentence for people, or AbortError after `signal`.
 */
export async function* complete(request, signal) {
  const answer = await call('v1/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...request, stream: true }),
    signal,
  });
  for await (const data of events(answer.body)) {
    if (data === '[DONE]') return;
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    yield event;
  }
  throw new Error('The server ended the text too early.');
}

/** The data of each server-sent event in a stream of bytes; comments keep it awake, no more. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ''; ; ) {
    const { value, done } = await reader.read().catch(lost);
    if (done) return;
    const blocks = (buffer + value).split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).filter((line) => line.startsWith('data:'));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join('\n');
    }
  }
}

/** fetch with the key of this tab, which is asked for when the server wants one. */
async function call(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${bytes(key)}` }) };
    const answer = await fetch(path, { ...options, headers }).catch(lost);
    if (answer.ok) return answer;
    const reason = await message(answer);
    if (answer.status !== 401 || !(await askForKey(reason))) throw new Error(reason);
  }
}

/** A text's bytes in UTF-8, a character each: fetch puts no others into a header. */
function bytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

function lost(error) {
  if (error.name === 'AbortError') throw error;
  throw new Error('The server does not answer. Is it still running, and are you connected?');
}

async function message(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The server answered ${answer.status} ${answer.statusText}`.trimEnd() + '.';
  }
}

/** Whether a key was given; it is in sessionStorage then. */
function askForKey(reason) {
  const dialog = document.querySelector('#key-dialog');
  const input = dialog.querySelector('#key');
  dialog.querySelector('#key-reason').textContent = reason;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const given = dialog.returnValue === 'use';
      if (given) sessionStorage.setItem(KEY, input.value.trim());
      input.value = '';
      resolve(given);
    };
  });
}
