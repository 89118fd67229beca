"""Functions from a Python file of the user's own: a reward, a grader. Loaded once; errors name the key that named the file."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from rlvr.cli import ConfigError


@lru_cache
def load_function(file: str, function: str, key: str, arguments: str) -> Callable:
    """`function` of the Python file `file`. ConfigError when it cannot be imported or has no such function.

    `key` is the configuration key that named it, `arguments` what the function takes, as "(response, label, info)".
    """
    spec = spec_from_file_location("user_file", file) if Path(file).suffix == ".py" else None
    if not Path(file).is_file():
        raise ConfigError(f"{key}={file}: no such file; expected a Python file with a function {function}{arguments}")
    if spec is None or spec.loader is None:
        raise ConfigError(f"{key}={file}: expected a Python file, *.py")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{key}={file}: cannot be imported ({type(error).__name__}: {error})") from error
    if not callable(getattr(module, function, None)):
        raise ConfigError(f"{key}={file}: has no function {function}{arguments}; write it, or name another")
    return getattr(module, function)
