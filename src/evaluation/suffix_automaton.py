"""What a sequence has in common with others, exactly and in one pass over them.

The suffix automaton of a sequence (Blumer et al. 1985, "The smallest automaton recognizing the
subwords of a text") has a path from its start for each of its spans, and no other. Two spans lead
to the same state if they end at the same places. A state's link leads to the state of the longest
end of its spans that ends at other places as well.
"""


class SuffixAutomaton:
    """Of a list of numbers. It needs about half a kilobyte for each of them."""

    def __init__(self, numbers):
        self.nexts, self.links, self.lengths = [], [], []  # of each state, 0 being the start
        self._state(0, {}, None)
        self.states = [0]  # the state of each beginning of `numbers`
        for number in numbers:
            self.states.append(self._extended(self.states[-1], number))
        self.seen = [0] * len(self.nexts)  # the longest span of each state that was read,
        self.ends = [0] * len(self.nexts)  # and where it ended
        self.read_so_far = 0

    def _state(self, length, nexts, link):
        self.nexts.append(nexts)
        self.links.append(link)
        self.lengths.append(length)  # of the longest span that leads here
        return len(self.nexts) - 1

    def _extended(self, state, number):
        """The new state of the whole sequence, `state` being that without its last number."""
        new = self._state(self.lengths[state] + 1, {}, 0)
        while state is not None and number not in self.nexts[state]:
            self.nexts[state][number] = new
            state = self.links[state]
        if state is not None:
            self.links[new] = self._of_length(state, number)
        return new

    def _of_length(self, state, number):
        """The state behind `state` and `number`, whose spans are no longer than by this step."""
        behind, length = self.nexts[state][number], self.lengths[state] + 1
        if self.lengths[behind] == length:
            return behind
        copy = self._state(length, dict(self.nexts[behind]), self.links[behind])
        self.links[behind] = copy
        while state is not None and self.nexts[state].get(number) == behind:
            self.nexts[state][number] = copy
            state = self.links[state]
        return copy

    def read(self, numbers):
        """Look for spans in another sequence, or None in it, which none goes across."""
        nexts, links, lengths, seen = self.nexts, self.links, self.lengths, self.seen
        state = length = 0
        for place, number in enumerate(numbers, self.read_so_far):
            self.read_so_far += 1
            while state and number not in nexts[state]:
                state = links[state]
                length = lengths[state]
            if number in nexts[state]:
                state, length = nexts[state][number], length + 1
            if length > seen[state]:
                seen[state], self.ends[state] = length, place

    def longest(self):
        """(length, end) for each number of the sequence, of the longest span that ends with it.

        `end` is the place of the same number among all that were read; where the length is 0, it
        was not among them.
        """
        for state in sorted(range(1, len(self.links)), key=self.lengths.__getitem__, reverse=True):
            link = self.links[state]
            if self.seen[state] and self.seen[link] < self.lengths[link]:
                self.seen[link], self.ends[link] = self.lengths[link], self.ends[state]
        for state in self.states[1:]:
            while state and not self.seen[state]:
                state = self.links[state]
            yield self.seen[state], self.ends[state]
