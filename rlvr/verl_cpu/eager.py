"""A process of a CPU run without torch's compiler, which tensordict and transformers import and which nothing there uses.

Loading `torch._dynamo` takes 1.1 to 1.5 s of a core and 70 MiB in each of a run's five processes. `install` puts modules in
its place that answer the few names asked for at import; whatever else is asked of them loads the compiler, so that
`torch.compile` works as ever, only later. Nothing heavy is imported here.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
MASKS = f"{COMPILER}._trace_wrapped_higher_order_op"
RULES = f"{COMPILER}.trace_rules"


def install() -> None:
    """Do without the compiler until something asks for it; no effect where it is loaded already."""
    if COMPILER in sys.modules:
        return
    decorators = dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable"), _unchanged)
    sys.modules[MASKS] = _Standin(MASKS, {"TransformGetItemToIndex": _late_transform})
    sys.modules[RULES] = _Standin(RULES, {"clear_lru_cache": _nothing})  # by torch.distributed
    known = decorators | {"is_compiling": _is_compiling, "graph_break": _nothing, "trace_rules": sys.modules[RULES]}
    sys.modules[COMPILER] = _Standin(COMPILER, known | {"__path__": []})
    sys.meta_path.insert(0, _Parts())


def _nothing(*args, **kwargs) -> None: ...


def _unchanged(function: Callable | None = None, *args, **kwargs) -> Callable:
    """What the compiler's decorators make of a function that is not compiled."""
    return (lambda decorated: decorated) if function is None else function


def _is_compiling() -> bool:
    import torch

    return torch.compiler.is_compiling()


def _late_transform() -> Any:
    return _loaded(MASKS).TransformGetItemToIndex()


class _Standin(ModuleType):
    def __init__(self, name: str, known: dict[str, Any]):
        super().__init__(name)
        vars(self).update(known, __spec__=ModuleSpec(name, None))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `inspect` asks every module for its file
            raise AttributeError(name)
        return getattr(_loaded(self.__name__), name)


class _Parts(MetaPathFinder, Loader):
    """Finds the other modules of the compiler, by loading all of it."""

    def find_spec(self, fullname, path, target=None):
        return ModuleSpec(fullname, self) if fullname.startswith(f"{COMPILER}.") else None

    def create_module(self, spec):
        return _loaded(spec.name)

    def exec_module(self, module) -> None: ...


def _loaded(name: str) -> ModuleType:
    """The real module; from now on the stand-ins are gone."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Parts)]
    for ours in (COMPILER, MASKS, RULES):
        if isinstance(sys.modules.get(ours), _Standin):
            del sys.modules[ours]
    importlib.import_module(COMPILER)
    return importlib.import_module(name)
