"""From tokens to text, while they come: what may be shown already, and where a stop text ends the answer."""

from typing import Any

from tokenizers.decoders import DecodeStream

from rlvr.verl_torch import stop_texts


class Text:
    """The text of one answer. `push` takes its tokens in order; `end` gives the whole text, cut before the first stop."""

    def __init__(self, tokenizer: Any, stop_texts: list[str]):
        self.tokenizer, self.stops = tokenizer, stop_texts
        self.stream = DecodeStream(skip_special_tokens=True)
        self.ids: list[int] = []
        self.text = ""
        self.shown = 0  # characters that `push` has given out

    def push(self, token: int) -> tuple[str, bool]:
        """The text that this token makes certain, and whether a stop text is complete."""
        self.ids.append(token)
        self.text += self.stream.step(self.tokenizer._tokenizer, token) or ""
        at = stop_texts.first(self.text, self.stops)
        # What could yet become a stop text is held back.
        end = at if at >= 0 else len(self.text) - max((self._held(stop) for stop in self.stops), default=0)
        new, self.shown = self.text[self.shown : end], max(self.shown, end)
        return new, at >= 0

    def end(self) -> str:
        """The whole text; also of bytes that never became a character."""
        whole = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        self.text = whole if whole.startswith(self.text[: self.shown]) else self.text
        return stop_texts.cut(self.text, self.stops)

    def _held(self, stop: str) -> int:
        """Characters at the end of the text that `stop` begins with."""
        return next((n for n in range(min(len(stop) - 1, len(self.text)), 0, -1) if self.text.endswith(stop[:n])), 0)
