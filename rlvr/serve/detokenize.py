"""Turns tokens into text as they arrive: which text can be shown already, and where a stop text ends the answer."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

from rlvr.verl_torch import stop_texts


class StreamedText:
    """The text of one answer. `push` takes its tokens in order; `end` gives the whole text, cut before the first stop."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]):
        self.tokenizer, self.stops = tokenizer, stops
        self.hidden = stop_texts.special_tokens(tokenizer, stops)
        self.stream = DecodeStream(skip_special_tokens=self.hidden is None)
        self.longest = max(map(len, stops), default=0)
        self.text = ""
        self.shown = 0  # characters that `push` has returned

    def push(self, token: int) -> tuple[str, bool]:
        """The new text that can be shown after this token, and whether a stop text is complete."""
        seen = len(self.text)
        self.text += self.stream.step(self.tokenizer.backend_tokenizer, token) or ""
        at = stop_texts.first(self.text, self.stops, max(0, seen - self.longest))
        # Hold back text that may be the beginning of a stop text.
        end = at if at >= 0 else len(self.text) - max(map(self._held, self.stops), default=0)
        new, self.shown = self.text[self.shown : end], max(self.shown, end)
        return self._visible(new), at >= 0

    def end(self, ids: Sequence[int]) -> str:
        """The whole text of the answer's tokens, including bytes that do not form a character."""
        whole = self.tokenizer.decode(ids, skip_special_tokens=self.hidden is None)
        return self._visible(
            stop_texts.cut(whole if whole.startswith(self.text[: self.shown]) else self.text, self.stops)
        )

    def _held(self, stop: str) -> int:
        """Characters at the end of the text that `stop` begins with."""
        return next((n for n in range(min(len(stop) - 1, len(self.text)), 0, -1) if self.text.endswith(stop[:n])), 0)

    def _visible(self, text: str) -> str:
        return self.hidden.sub("", text) if self.hidden else text
