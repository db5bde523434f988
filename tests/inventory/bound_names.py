"""The names that Python's text binds, each with the value, or the part of one, that it is bound to."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.Lambda
EACH, KEY, VALUE = "each", "key", "value"
Steps: TypeAlias = tuple[str | int, ...]
"""How a part is taken out of a value: one of its elements, a key, the element at an index."""


class Bound(NamedTuple):
    """What a name is bound to: a part of a value."""

    value: ast.expr
    path: Steps = ()


def bound_to(target: ast.expr, bound: Bound) -> Iterator[tuple[str, Bound]]:
    """The names of a target, each with its part of the value."""
    if isinstance(target, ast.Name):
        yield target.id, bound
    elif isinstance(target, ast.Starred):
        yield from bound_to(target.value, bound)
    elif isinstance(target, ast.Tuple):
        for index, inner in enumerate(target.elts):
            yield from bound_to(inner, Bound(bound.value, (*bound.path, index)))


def bindings_in(nodes: Iterable[ast.AST]) -> dict[str, list[Bound]]:
    """The names that statements and expressions bind; functions in them are left out."""
    found: dict[str, list[Bound]] = defaultdict(list)
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        pairs: list[tuple[ast.expr, ast.expr | None, Steps]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value, ()) for target in node.targets]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            pairs = [(node.target, node.value, ())]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, node.iter, (EACH,))]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            pairs = [(node.optional_vars, node.context_expr, ())]
        for target, value, path in pairs:
            if value is not None:
                for name, bound in bound_to(target, Bound(value, path)):
                    found[name].append(bound)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
        for name, bound in put_into(node):
            found[name].append(bound)
    return found


def put_into(node: ast.AST) -> Iterator[tuple[str, Bound]]:
    """The names of lists, sets and dictionaries into which a statement puts something, with what it puts."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="append" | "add" | "insert", value=ast.Name(id=name)), args=given
        ):
            yield name, Bound(ast.List(given[-1:]))
        case ast.Call(func=ast.Attribute(attr="extend" | "update", value=ast.Name(id=name)), args=[given]):
            yield name, Bound(given)
        case ast.Call(func=ast.Attribute(attr="setdefault", value=ast.Name(id=name)), args=[key, value]):
            yield name, Bound(ast.Dict([key], [value]))
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=key)], value=value):
            yield name, Bound(ast.Dict([key], [value]))


@cache
def bindings_of(function: Function) -> dict[str, list[Bound]]:
    """The names that a function binds."""
    return bindings_in([function.body] if isinstance(function, ast.Lambda) else function.body)


def is_own(name: str, function: Function | None) -> bool:
    """Whether a name is one that a function itself binds."""
    return function is not None and (name in parameters_of(function) or name in bindings_of(function))


def parameters_of(function: Function) -> set[str]:
    """The names of all parameters."""
    several = function.args
    named = [*several.posonlyargs, *several.args, *several.kwonlyargs, several.vararg, several.kwarg]
    return {argument.arg for argument in named if argument is not None}


def default_of(function: ast.FunctionDef, name: str) -> ast.expr | None:
    """The default of a parameter."""
    several = function.args
    names = [argument.arg for argument in (*several.posonlyargs, *several.args)]
    of_names = dict(zip(reversed(names), reversed(several.defaults), strict=False))
    of_keywords = {
        argument.arg: value for argument, value in zip(several.kwonlyargs, several.kw_defaults, strict=True)
    }
    return (of_names | of_keywords).get(name)


def given_to(call: ast.Call, function: ast.FunctionDef, name: str) -> list[Bound]:
    """What a call gives for a parameter; `*rest` and `**rest` count for all that they may fill."""
    several = function.args
    names = [argument.arg for argument in (*several.posonlyargs, *several.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    if several.kwarg is not None and name == several.kwarg.arg:
        return [Bound(keyword.value) for keyword in call.keywords if keyword.arg not in names]
    found = [Bound(keyword.value) for keyword in call.keywords if keyword.arg == name]
    found += [Bound(keyword.value, (VALUE,)) for keyword in call.keywords if keyword.arg is None]
    if several.vararg is not None and name == several.vararg.arg:
        return [*found, *map(Bound, call.args[len(names) :])]
    starred = [place for place, value in enumerate(call.args) if isinstance(value, ast.Starred)]
    if name in names:
        place = names.index(name)
        if starred and starred[0] <= place:
            found += map(Bound, call.args[starred[0] :])
        elif place < len(call.args):
            found.append(Bound(call.args[place]))
    return found
