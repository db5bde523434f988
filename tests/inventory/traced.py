"""The parts of statements: each text that goes to the database is followed to what it is made of.

A part is the program's own if it is a constant, a whole number (`int`, `numerals`), a list of marks, a quoted
name, or made of such parts alone. A name is followed to all that it is bound to, a function to what it
returns, a parameter to what every call gives, wherever in the program that call is.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.inventory.bound_names import (
    EACH,
    KEY,
    VALUE,
    Bound,
    Function,
    Steps,
    bindings_in,
    bindings_of,
    default_of,
    given_to,
    is_own,
    parameters_of,
)

INVENTORY = "backup.inventory"
DRIVER = f"{INVENTORY}.store.driver"
RUNS = ("execute", "executemany", "executescript")
CHECKED = {"marks", "numerals", "quoted"}
"""Functions of the driver whose results are fit for a statement, whatever they are given."""
NUMBERS = {"int", "len"}
MADE_OF_ALL = {
    "dict", "enumerate", "frozenset", "list", "map", "max", "min", "range", "repeat", "reversed", "set",
    "sorted", "str", "timedelta", "tuple", "zip",
}  # fmt: skip
METHODS_MADE_OF_ALL = {"format", "items", "join", "keys", "replace", "values"}


class Place(NamedTuple):
    """A module, and the function in it in which an expression stands."""

    module: str
    function: Function | None = None


class Module(NamedTuple):
    """All that a module binds."""

    constants: dict[str, list[Bound]]
    functions: dict[str, ast.FunctionDef]
    classes: set[str]
    imports: dict[str, tuple[str, str]]


class Program:
    """The modules of the inventory, and of the rest those that call a function that is followed."""

    def __init__(self, root: Path) -> None:
        self._modules: dict[str, Module] = {}
        self._calls: dict[str, list[tuple[Place, ast.Call]]] = defaultdict(list)
        self._values: dict[str, list[tuple[Place, ast.Name]]] = defaultdict(list)
        self._methods: dict[str, list[Place]] = defaultdict(list)
        self._known: dict[tuple[ast.expr, Steps, Place], set[str]] = {}
        self._unread: dict[str, str] = {}
        for path in sorted((root / "backup").rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            text = path.read_text()
            if name.startswith(INVENTORY):
                self._read(name, text)
            elif INVENTORY in text:
                self._unread[name] = text

    def _read(self, name: str, text: str) -> None:
        tree = ast.parse(text)
        made = self._modules[name] = Module(bindings_in(tree.body), {}, set(), {})
        for statement in tree.body:
            if isinstance(statement, ast.FunctionDef):
                made.functions[statement.name] = statement
            elif isinstance(statement, ast.ClassDef):
                made.classes.add(statement.name)
                for method in statement.body:
                    if isinstance(method, ast.FunctionDef):
                        self._methods[method.name].append(Place(name, method))
        self._visit(tree, Place(name), made)

    def _visit(self, node: ast.AST, place: Place, made: Module) -> None:
        if isinstance(node, Function):
            place = Place(place.module, node)
        if isinstance(node, ast.ImportFrom):
            made.imports.update(
                {name.asname or name.name: (node.module or "", name.name) for name in node.names}
            )
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and isinstance(called, ast.Name | ast.Attribute):
            self._calls[called.id if isinstance(called, ast.Name) else called.attr].append((place, node))
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Name) and child is not called:
                self._values[child.id].append((place, child))
            self._visit(child, place, made)

    def statements(self) -> Iterator[tuple[str, set[str]]]:
        """Each call that runs a statement, with the parts of the statement that are not the program's own."""
        for run in RUNS:
            for place, call in tuple(self._calls[run]):
                if place.module.startswith(INVENTORY):
                    yield self._shown(call, place), self.foreign(call.args[0], place)

    def foreign(self, node: ast.expr, place: Place, path: Steps = ()) -> set[str]:
        """The parts of an expression, or of a part of it, that are not the program's own, with places."""
        key = node, path, place
        if key not in self._known:
            self._known[key] = set()  # where it comes back to itself, nothing new is in it
            self._known[key] = set(self._parts_at(node, place, path) if path else self._parts(node, place))
        return self._known[key]

    def _all(self, nodes: Iterable[ast.expr | None], place: Place) -> Iterator[str]:
        for node in nodes:
            if node is not None:
                yield from self.foreign(node, place)

    def _bound(self, several: Iterable[Bound], place: Place, path: Steps = ()) -> Iterator[str]:
        for bound in several:
            yield from self.foreign(bound.value, place, bound.path + path)

    def _parts_at(self, node: ast.expr, place: Place, path: Steps) -> Iterator[str]:
        """The same for a part; where it cannot be told from the rest, all of the value is meant."""
        step, rest = path[0], path[1:]
        match node, step:
            case (ast.Tuple(elts=several) | ast.List(elts=several), "each"):
                for part in several:
                    if isinstance(part, ast.Starred):
                        yield from self.foreign(part.value, place, path)
                    else:
                        yield from self.foreign(part, place, rest)
            case (ast.Tuple(elts=several), int()) if step < len(several):
                yield from self.foreign(several[step], place, rest)
            case (ast.GeneratorExp(elt=each) | ast.ListComp(elt=each) | ast.SetComp(elt=each), "each"):
                yield from self.foreign(each, place, rest)
            case (ast.Dict(keys=keys, values=values), "each" | "key" | "value"):
                for key, value in zip(keys, values, strict=True):
                    if key is None:
                        yield from self.foreign(value, place, path)
                    else:
                        yield from self.foreign(value if step == VALUE else key, place, rest)
            case (ast.DictComp(key=key, value=value), "each" | "key" | "value"):
                yield from self.foreign(value if step == VALUE else key, place, rest)
            case (ast.Call(func=ast.Attribute(attr="items", value=items)), "each") if rest and rest[0] in {
                0,
                1,
            }:
                yield from self.foreign(items, place, (VALUE if rest[0] else KEY, *rest[1:]))
            case (ast.Call(func=ast.Name(id="zip"), args=several), "each") if rest and isinstance(
                rest[0], int
            ):
                yield from self.foreign(several[rest[0]], place, (EACH, *rest[1:]))
            case (ast.IfExp(body=body, orelse=orelse), _):
                yield from self.foreign(body, place, path)
                yield from self.foreign(orelse, place, path)
            case (ast.Name(), _):
                yield from self._of_name(node, place, path)
            case _:
                yield from self.foreign(node, place)

    def _parts(self, node: ast.expr, place: Place) -> Iterator[str]:
        match node:
            case ast.Constant():
                pass
            case ast.JoinedStr(values=values):
                yield from self._all((v.value for v in values if isinstance(v, ast.FormattedValue)), place)
            case ast.BinOp(left=left, right=right):
                yield from self._all((left, right), place)
            case ast.IfExp(body=body, orelse=orelse):
                yield from self._all((body, orelse), place)
            case (
                ast.BoolOp(values=several)
                | ast.Tuple(elts=several)
                | ast.List(elts=several)
                | ast.Set(elts=several)
            ):
                yield from self._all(several, place)
            case ast.Dict(keys=keys, values=values):
                yield from self._all((*keys, *values), place)
            case ast.GeneratorExp(elt=each) | ast.ListComp(elt=each) | ast.SetComp(elt=each):
                yield from self.foreign(each, place)
            case ast.DictComp(key=key, value=value):
                yield from self._all((key, value), place)
            case ast.Attribute(attr=attr) if attr.isupper():
                pass  # a member of an enumeration, a constant of a module
            case ast.Starred(value=value) | ast.Attribute(value=value) | ast.Subscript(value=value):
                yield from self.foreign(value, place)
            case ast.UnaryOp(operand=operand):
                yield from self.foreign(operand, place)
            case ast.Call() if not place.module.startswith(INVENTORY):
                yield self._shown(node, place)
            case ast.Call():
                yield from self._of_call(node, place)
            case ast.Name():
                yield from self._of_name(node, place)
            case _:
                yield self._shown(node, place)

    def _of_call(self, call: ast.Call, place: Place) -> Iterator[str]:
        function, given = call.func, [*call.args, *(keyword.value for keyword in call.keywords)]
        followed = self._functions(call, place)
        name = function.id if isinstance(function, ast.Name) else ""
        if any(found.module == DRIVER and _name_of(found) in CHECKED for found in followed):
            return
        if followed:
            for found in followed:
                yield from self._returned(found)
        elif isinstance(function, ast.Attribute) and function.attr == "join":
            yield from self.foreign(function.value, place)
            yield from self.foreign(given[0], place, (EACH,))
        elif isinstance(function, ast.Attribute) and function.attr in METHODS_MADE_OF_ALL:
            yield from self._all((function.value, *given), place)
        elif name == "map" and ast.unparse(given[0]) in CHECKED:
            return
        elif name in MADE_OF_ALL:
            yield from self._all(given[1:] if name == "map" else given, place)
        elif self._is_class(name, place):
            yield from self._all(given, place)  # an object is as good as what it is made of
        elif name not in NUMBERS:
            yield self._shown(call, place)

    def _functions(self, call: ast.Call, place: Place) -> list[Place]:
        """The functions that a call may reach: one by its name or module, or all methods of a name."""
        function, imports = call.func, self._modules[place.module].imports
        if isinstance(function, ast.Name):
            found = self._function(function.id, place.module)
            return [found] if found is not None else []
        if not isinstance(function, ast.Attribute):
            return []
        if isinstance(function.value, ast.Name) and function.value.id in imports:
            module = ".".join(imports[function.value.id])
            if module in self._modules:
                found = self._function(function.attr, module)
                return [found] if found is not None else []
        return [] if function.attr in METHODS_MADE_OF_ALL else self._methods[function.attr]

    def _function(self, name: str, module: str) -> Place | None:
        here = self._modules[module]
        if name in here.functions:
            return Place(module, here.functions[name])
        source, original = here.imports.get(name, ("", ""))
        return self._function(original, source) if source in self._modules else None

    def _is_class(self, name: str, place: Place) -> bool:
        module = self._modules[place.module]
        return name in module.classes or (name in module.imports and name[0].isupper() and not name.isupper())

    def _returned(self, place: Place) -> Iterator[str]:
        assert isinstance(place.function, ast.FunctionDef)
        for node in ast.walk(place.function):
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
                yield from self.foreign(node.value, place)

    def _of_name(self, node: ast.Name, place: Place, path: Steps = ()) -> Iterator[str]:
        module = self._modules[place.module]
        own: dict[str, list[Bound]] = {}
        if place.function is not None:
            own = bindings_of(place.function)
            yield from self._bound(own.get(node.id, ()), place, path)
            if node.id in parameters_of(place.function):
                yield from self._of_parameter(node, place, path)
                return
        if node.id in own or self._is_class(node.id, place):
            return  # of a class: its members, where it is an enumeration
        if node.id in module.constants:
            yield from self._bound(module.constants[node.id], Place(place.module), path)
        elif node.id in module.imports:
            source, original = module.imports[node.id]
            if source in self._modules and original in self._modules[source].constants:
                yield from self._bound(self._modules[source].constants[original], Place(source), path)
            elif not node.id.isupper():
                yield self._shown(node, place)
        else:
            yield self._shown(node, place)

    def _of_parameter(self, node: ast.Name, place: Place, path: Steps) -> Iterator[str]:
        """The foreign parts of all that calls give for a parameter, and of its default."""
        function, name = place.function, node.id
        is_outside = not place.module.startswith(INVENTORY)
        if not isinstance(function, ast.FunctionDef) or name in {"self", "cls"} or is_outside:
            yield self._shown(node, place)
            return
        self._read_callers(place)
        for where, value in self._values[function.name]:
            if self._function(value.id, where.module) == place and not is_own(value.id, where.function):
                yield f"{self._shown(value, where)} is given away, not called"
        default = default_of(function, name)
        if default is not None:
            yield from self.foreign(default, Place(place.module), path)
        for where, call in tuple(self._calls[function.name]):
            if place in self._functions(call, where):
                for given, taken in given_to(call, function, name):
                    yield from self.foreign(given, where, taken + path)

    def _read_callers(self, place: Place) -> None:
        """Read the modules of the rest of the program that may call a function."""
        called, module = f"{_name_of(place)}(", place.module.rpartition(".")[2]
        is_method = place.function is not self._modules[place.module].functions.get(_name_of(place))
        for name, text in tuple(self._unread.items()):
            if called in text and (is_method or module in text):
                self._read(name, self._unread.pop(name))

    def _shown(self, node: ast.expr, place: Place) -> str:
        return f"{place.module}:{node.lineno}: {ast.unparse(node)[:80]}"


def _name_of(place: Place) -> str:
    return place.function.name if isinstance(place.function, ast.FunctionDef) else ""
