"""What waits for an import: names that load where they are first used, and actions that follow a module.

So a command's help waits for no library, and what others have to know of this package is told them when they are there.
"""

import importlib.abc
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def attach(
    package: str, defined_in: Mapping[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        defined_in: public name -> module in full.
        modules: names of modules of the package that are there as attributes without an import of their own.
    """

    def __getattr__(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in defined_in:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(defined_in[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        special = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted({*special, *defined_in, *modules})

    return __getattr__, __dir__


def when_imported(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call `action(module)` each time that a module has been imported; at once, if it is there already.

    Args:
        name: of the module, in full.
        action: may be called again for the same module, after a reload for example.
    """
    finder = _AfterImport.install()
    actions = finder.actions.setdefault(name, [])
    if action not in actions:
        actions.append(action)
    if sys.modules.get(name) is not None:
        __import__(name, fromlist=("",))  # Waits for another thread that is at it; `import_module` might stop both.
    module = sys.modules.get(name)
    if module is not None and module is finder.acted_on.get(name):
        action(module)
    else:
        finder.catch_up()


def do_without(name: str) -> None:
    """Let a module be missing for the rest of this process, if it has not been imported: libraries that can do without
    it, as transformers reads tokenizers and configurations without torch, do not wait for it.

    For a process that is one command, and ends with it.
    """
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # what Python calls a module that is not to be found


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and sees to it that actions follow the import."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Callable[[ModuleType], None]]] = {}
        self.acted_on: dict[str, ModuleType] = {}
        self._searches: set[tuple[str, int]] = set()

    @classmethod
    def install(cls) -> "_AfterImport":
        """Return the one that is installed, after installing it if there is none."""
        for finder in sys.meta_path:
            if isinstance(finder, cls):
                return finder
        finder = cls()
        sys.meta_path.insert(0, finder)
        return finder

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        self.catch_up()
        # Another finder may search by asking all finders, this one included.
        search = (fullname, threading.get_ident())
        if fullname not in self.actions or search in self._searches:
            return None
        self._searches.add(search)
        try:
            others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
            spec = next((found for one in others if (found := one.find_spec(fullname, path, target))), None)
        finally:
            self._searches.discard(search)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, lambda module: self._act(fullname, module))
        return spec

    def catch_up(self) -> None:
        """Act on what came in by another way: by a finder before this one, or while the action was being noted."""
        for name in list(self.actions):
            module = sys.modules.get(name)
            if module is not None and module is not self.acted_on.get(name) and not _is_initializing(module):
                self._act(name, module)

    def _act(self, name: str, module: ModuleType) -> None:
        self.acted_on[name] = module
        for action in list(self.actions[name]):
            action(module)


class _ActingLoader(importlib.abc.Loader):
    """A module's loader, and an action behind it; the module keeps its own loader."""

    def __init__(self, loader: Any, action: Callable[[ModuleType], None]):
        self.loader, self.action = loader, action

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        self.action(module)


def _is_initializing(module: ModuleType) -> bool:
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


__all__ = ["attach", "do_without", "when_imported"]
