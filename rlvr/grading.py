"""Is the answer in this response right? `grade(response, gold) -> (score, reason)`.

1. The answer is what stands in the last complete \\boxed{...} of the response; without one there is no answer.
2. Equal strings, and plain integers, are decided here. Everything else goes to Math-Verify, which runs in a worker
   process: its timeouts need a main thread, and only a process can be stopped for certain.
3. A failure of the grader is a reason of its own (`timeout`, `error`), never a silent wrong answer.
"""

import re
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context

TIMEOUT_S = 10
MAX_ANSWER_CHARS = 2000
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def last_boxed(text: str) -> str | None:
    """The content of the last complete `\\boxed{...}`, braces matched; None without one."""
    end = len(text)
    while (start := text.rfind("\\boxed", 0, end)) >= 0:
        end = start
        opening = start + len("\\boxed")
        while opening < len(text) and text[opening] == " ":
            opening += 1
        if opening >= len(text) or text[opening] != "{":
            continue
        depth = 0
        for i in range(opening, len(text)):
            depth += (text[i] == "{") - (text[i] == "}")
            if depth == 0:
                return text[opening + 1 : i]
    return None


def grade(response: str, gold: str) -> tuple[float, str]:
    """Score in {0.0, 1.0} and the reason: correct, wrong, no_answer, unparsable, timeout or error."""
    answer = last_boxed(response)
    if answer is None or not answer.strip():
        return 0.0, "no_answer"
    if len(answer) > MAX_ANSWER_CHARS:
        return 0.0, "unparsable"
    return _grade_answer(_plain(answer), _plain(gold))


def _plain(answer: str) -> str:
    return answer.strip().strip("$").strip().rstrip(".").strip()


@lru_cache(maxsize=65536)
def _grade_answer(answer: str, gold: str) -> tuple[float, str]:
    if answer == gold:
        return 1.0, "correct"
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold):
        return (1.0, "correct") if int(answer) == int(gold) else (0.0, "wrong")
    return _in_worker(answer, gold)


_pool: ProcessPoolExecutor | None = None


def _in_worker(answer: str, gold: str) -> tuple[float, str]:
    global _pool
    if _pool is None:
        _pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        _pool.submit(_math_verify, "1", "2").result()  # importing Math-Verify is not the answer's fault
    try:
        return _pool.submit(_math_verify, answer, gold).result(timeout=TIMEOUT_S)
    except (TimeoutError, BrokenProcessPool) as failure:
        for process in _pool._processes.values():
            process.kill()
        _pool.shutdown(wait=False, cancel_futures=True)
        _pool = None
        return 0.0, "timeout" if isinstance(failure, TimeoutError) else "error"


def _math_verify(answer: str, gold: str) -> tuple[float, str]:
    from math_verify import parse, verify

    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=5)
    parsed_answer = parse(f"\\boxed{{{answer}}}", parsing_timeout=5)
    if not parsed_answer or not parsed_gold:
        return 0.0, "unparsable"
    return (1.0, "correct") if verify(parsed_gold, parsed_answer, timeout_seconds=5) else (0.0, "wrong")
