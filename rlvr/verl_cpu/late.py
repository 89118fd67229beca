"""A process of a CPU run without packages that verl, transformers and torch import and that hardly any of its processes uses.

Torch's compiler alone takes 1.1 to 1.5 s of a core and 70 MiB in each of a run's five processes; the others a third of
what then remains. `install` puts modules in their place that hold the names asked for at import; using one of
these, or asking for any other, loads the package, so that everything works as ever, only later. Nothing heavy is imported here.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"
SHAPES = "torch.fx.experimental.symbolic_shapes"
CONDITIONS = ("expect_true", "guard_or_false", "guard_or_true", "guard_size_oblivious", "statically_known_true")
# By package: its modules that are asked for, and the names which are imported from them.
PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    COMPILER: {
        COMPILER: (),
        f"{COMPILER}.eval_frame": ("OptimizedModule",),
        f"{COMPILER}._trace_wrapped_higher_order_op": ("TransformGetItemToIndex",),
        f"{COMPILER}.trace_rules": (),
    },
    SHAPES: {SHAPES: ("guarding_hint_or_throw", "has_guarding_hint")},
    "sympy": {"sympy": ("Basic",)},
    "datasets": {"datasets": ("Dataset",)},
    "pandas": {"pandas": ()},
    "peft": {
        "peft": ("LoraConfig", "TaskType", "get_peft_model"),
        "peft.utils.save_and_load": ("get_peft_model_state_dict",),
    },
    "scipy.optimize": {"scipy.optimize": ("linear_sum_assignment",)},
    "fastapi": {"fastapi": ("FastAPI",)},
    "aiohttp": {"aiohttp": ()},
}


def install() -> None:
    """Do without the packages until something asks for them; no effect on one that is loaded already."""
    for package, modules in PACKAGES.items():
        if package not in sys.modules:
            sys.modules |= {name: _Standin(name, package, names) for name, names in modules.items()}
    if isinstance(shapes := sys.modules.get(SHAPES), _Standin):
        # What torch.distributed.tensor catches where shapes are symbols, which they are nowhere without the compiler.
        vars(shapes)["GuardOnDataDependentSymNode"] = type("GuardOnDataDependentSymNode", (RuntimeError,), {})
        vars(shapes).update({name: _OfPlain(SHAPES, name, *how) for name, how in PLAIN.items()})
    if isinstance(compiler := sys.modules.get(COMPILER), _Standin):
        rules, frame = (sys.modules[f"{COMPILER}.{part}"] for part in ("trace_rules", "eval_frame"))
        vars(rules)["clear_lru_cache"] = _nothing  # by torch.distributed
        decorators = dict.fromkeys(("allow_in_graph", "assume_constant_result", "disable"), _unchanged)
        known = {"is_compiling": _is_compiling, "graph_break": _nothing, "mark_dynamic": _nothing}
        vars(compiler).update(decorators | known | {"trace_rules": rules, "eval_frame": frame})
    if not any(isinstance(finder, _Parts) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Parts())


def _nothing(*args, **kwargs) -> None: ...


def _unchanged(function: Callable | None = None, *args, **kwargs) -> Callable:
    """What the compiler's decorators make of a function that is not compiled."""
    return (lambda decorated: decorated) if function is None else function


def _is_compiling() -> bool:
    import torch

    return torch.compiler.is_compiling()


class _Late:
    """A function or a class of a module that is not loaded; calling it, or asking it for anything, loads it."""

    def __init__(self, module: str, name: str):
        self._where = module, name

    def _real(self) -> Any:
        module, name = self._where
        return getattr(_loaded(module), name)

    def __call__(self, *args, **kwargs) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        """Nothing is an instance of a class that is not loaded."""
        standing_in = isinstance(sys.modules.get(self._where[0]), _Standin)
        return not standing_in and isinstance(instance, self._real())


class _OfPlain(_Late):
    """A function of sizes or of conditions on them, with its answer for those that are no symbols."""

    def __init__(self, module: str, name: str, is_plain: Callable[[Any], bool], answer: Callable):
        super().__init__(module, name)
        self._plain = is_plain, answer

    def __call__(self, *args, **kwargs) -> Any:
        is_plain, answer = self._plain
        return answer(*args) if args and all(map(is_plain, args)) else super().__call__(*args, **kwargs)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_int(value: Any) -> bool:
    return isinstance(value, int)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(map(_is_int, value))


PLAIN: dict[str, tuple[Callable[[Any], bool], Callable]] = {
    **dict.fromkeys(CONDITIONS, (_is_bool, lambda truth: truth)),
    "sym_and": (_is_bool, lambda *truths: all(truths)),
    "sym_or": (_is_bool, lambda *truths: any(truths)),
    "sym_eq": (_is_shape, lambda one, other: list(one) == list(other)),
    "is_nested_int": (_is_int, lambda number: False),
}


class _Standin(ModuleType):
    def __init__(self, name: str, package: str, names: tuple[str, ...]):
        super().__init__(name)
        vars(self).update({one: _Late(name, one) for one in names}, __spec__=ModuleSpec(name, None))
        if name == package:
            self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":  # `inspect` asks every module for its file
            raise AttributeError(name)
        return getattr(_loaded(self.__name__), name)


class _Parts(MetaPathFinder, Loader):
    """Finds the other modules of a package that is not loaded, by loading it; the compiler's settings are a file that stands
    alone, which distributed tensors read.
    """

    def find_spec(self, fullname, path, target=None):
        if fullname == f"{COMPILER}.config" and isinstance(sys.modules.get(COMPILER), _Standin):
            import torch

            return PathFinder.find_spec(fullname, [f"{torch.__path__[0]}/_dynamo"])
        missing = any(
            fullname.startswith(f"{package}.") and isinstance(sys.modules.get(package), _Standin)
            for package in PACKAGES
        )
        return ModuleSpec(fullname, self) if missing else None

    def create_module(self, spec):
        package = next(package for package in PACKAGES if spec.name.startswith(f"{package}."))
        _loaded(package)
        return importlib.import_module(spec.name)

    def exec_module(self, module) -> None: ...


def _loaded(name: str) -> ModuleType:
    """The real module; who holds one that stood in for its package finds the real names there too."""
    package = next(package for package, modules in PACKAGES.items() if name in modules)
    stood_in = {one: sys.modules.pop(one) for one in PACKAGES[package] if isinstance(sys.modules.get(one), _Standin)}
    importlib.import_module(package)
    for one, standin in stood_in.items():
        vars(standin).update(vars(importlib.import_module(one)))
    return importlib.import_module(name)
