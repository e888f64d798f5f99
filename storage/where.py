"""Predicates on label columns, as people write them: ``test_acc > 0.8 and seed == 7``. Nothing is executed."""

import ast
import difflib
from collections.abc import Collection
from typing import Any

from .errors import PredicateError

MAX_LENGTH = 2000
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "__add__",
    ast.Sub: "__sub__",
    ast.Mult: "__mul__",
    ast.Div: "__truediv__",
}


def parse_where(text: str, columns: Collection[str]) -> Any:
    """Arrow expression of a predicate. A comparison with null is not true.

    Allowed: column names, numbers, strings, True, False, None, comparisons (chained too), ``in`` a list, ``is None``,
    ``and``, ``or``, ``not``, and + - * /.

    Raises:
        PredicateError: anything else, or an unknown column; the nearest name is offered.
    """
    if len(text) > MAX_LENGTH:
        raise PredicateError(f"where: longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise PredicateError(
            f'where: {text!r} cannot be read; write e.g. "test_acc > 0.8 and seed in [1, 2]"'
        ) from None
    return _Reader(text, columns).expression(tree.body)


class _Reader:
    def __init__(self, text: str, columns: Collection[str]) -> None:
        import pyarrow.compute as pc

        self.pc = pc
        self.text = text
        self.columns = columns

    def expression(self, node: ast.expr) -> Any:
        """A node that stands for true or false."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.expression(value) for value in values]
                whole = parts[0]
                for part in parts[1:]:
                    whole = (whole & part) if isinstance(op, ast.And) else (whole | part)
                return whole
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.expression(operand)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                whole = None
                for compare, right in zip(ops, comparators, strict=True):
                    part = self.comparison(left, compare, right)
                    whole = part if whole is None else whole & part
                    left = right
                return whole
            case ast.Name():
                return self.value(node)
            case ast.Constant(value=bool()):
                return self.value(node)
        raise self.refused(node)

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self.refused(right)
            missing = self.value(left).is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise self.refused(right)
            found = self.value(left).isin([self.constant(item) for item in right.elts])
            return found if isinstance(op, ast.In) else ~found
        result: Any = getattr(self.value(left), _COMPARE[type(op)])(self.value(right))
        return result

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                if name not in self.columns:
                    close = difflib.get_close_matches(name, self.columns, 1)
                    offer = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(self.columns))}"
                    raise PredicateError(f"where: no column {name!r}{offer}")
                return self.pc.field(name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                result: Any = getattr(self.value(left), _ARITHMETIC[type(op)])(self.value(right))
                return result
            case ast.Constant() | ast.UnaryOp():
                return self.pc.scalar(self.constant(node))
        raise self.refused(node)

    def constant(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self.refused(node)

    def refused(self, node: ast.AST) -> PredicateError:
        part = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        return PredicateError(
            f"where: {part!r} is not allowed; use column names, numbers, strings, comparisons, `in`, `is None`, "
            "`and`, `or` and `not`"
        )
