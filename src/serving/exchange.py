"""A request in the event loop: its texts, which another thread makes, and who waits for them."""

import asyncio
import functools

import anyio

from . import refused, texts


class Exchange:
    """The texts of one request, and what they tell.

    Attributes:
        texts: of each prompt `best_of`, one prompt after the other.
    """

    def __init__(self, request, enc, n_ctx, metrics, timeout):
        """To be made in the event loop.

        Args:
            request: a completions.Request.
            timeout: seconds after which it is refused.
        """
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Queue()
        self._metrics, self.ends = metrics, {}
        seed = None if request.seed is None else request.seed % 2**64  # which has a sign
        self.texts = []
        for prompt in range(len(request.prompts)):
            for number in range(request.best_of):
                text = texts.Text(
                    request,
                    prompt,
                    number,
                    enc,
                    n_ctx,
                    functools.partial(self._deliver, len(self.texts)),
                    seed=seed,
                    ranked=request.best_of > request.n,
                )
                text.deadline = text.begun + timeout
                self.texts.append(text)

    def _deliver(self, index, event):  # in the scheduler's thread
        try:
            self._loop.call_soon_threadsafe(self._told.put_nowait, (index, event))
        except RuntimeError:  # the loop has ended, and nobody waits
            self.texts[index].cancelled = True

    async def told(self):
        """(which text, its Piece or End), until all have ended.

        Raises Refused: one of them cannot be.
        """
        while len(self.ends) < len(self.texts):
            index, event = await self._told.get()
            if isinstance(event, refused.Refused):
                raise event
            if isinstance(event, texts.End):
                self.ends[index] = event
            yield index, event

    async def collected(self, receive):
        """The pieces of each text when all have ended; None if whoever asked has left.

        Args:
            receive: the connection's, from which nothing but its end comes any more.

        Raises Refused as `told` does.
        """
        pieces, wrong = [[] for _ in self.texts], []

        async def collect():
            try:
                async for index, event in self.told():
                    if not isinstance(event, texts.End):
                        pieces[index].append(event)
            except refused.Refused as error:  # which must not come out of a task group
                wrong.append(error)
            tasks.cancel_scope.cancel()

        async def watch():
            while (await receive())['type'] != 'http.disconnect':
                pass
            tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                tasks.start_soon(collect)
        finally:
            self.close()
        if wrong:
            raise wrong[0]
        return pieces if len(self.ends) == len(self.texts) else None

    def close(self):
        """Be rid of what has not ended, and count all."""
        for text in self.texts:
            text.cancelled = True
            self._metrics.add(text)
