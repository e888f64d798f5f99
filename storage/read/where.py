"""Predicates on label columns in Python's syntax: ``test_acc > 0.8 and seed == 7``. Parsed, never executed."""

import ast
import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PredicateError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LENGTH = 20_000
MAX_DEPTH = 100
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
}


def rows_where(text: str, table: "pa.Table") -> NDArray[np.bool_]:
    """True where a row of ``table`` fulfils the predicate, [rows]. A comparison with null is neither true nor false.

    Allowed: column names, numbers, strings, True, False, comparisons (chained too), ``in`` a list, ``is None``,
    ``and``, ``or``, ``not``, and + - * /.

    Raises:
        PredicateError: anything else, an unknown column (the nearest name is offered), or types that do not compare.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(text) > MAX_LENGTH:
        raise PredicateError(f"where: longer than {MAX_LENGTH} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        _check_depth(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise PredicateError(
            f'where: {_shown(text)} cannot be read; write e.g. "test_acc > 0.8 and seed in [1, 2]"'
        ) from None
    try:
        truth = _Evaluator(text, table).truth(tree.body)
        if isinstance(truth, pa.Scalar):
            return np.full(table.num_rows, bool(truth.as_py()))
        return np.asarray(pc.fill_null(truth, False).to_numpy(zero_copy_only=False), np.bool_)
    except PredicateError:
        raise
    except pa.ArrowNotImplementedError:
        raise PredicateError(f"where: {_shown(text)} compares values of different types") from None
    except (OverflowError, UnicodeError):
        raise PredicateError(f"where: {_shown(text)} has a number or a text that no column can hold") from None
    except Exception as error:
        said = str(error).partition("\n")[0][:100]
        raise PredicateError(f"where: {_shown(text)} cannot be evaluated ({type(error).__name__}: {said})") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _check_depth(tree: ast.AST) -> None:
    """Raises ValueError for a predicate that is nested too deeply to be evaluated by recursion."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise ValueError("nested too deeply")


class _Evaluator:
    def __init__(self, text: str, table: "pa.Table") -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.pa, self.pc = pa, pc
        self.text = text
        self.table = table

    def truth(self, node: ast.expr) -> Any:
        """The truth of a node per row: true, false or null."""
        match node:
            case ast.BoolOp(op=op, values=values):
                join = self.pc.and_kleene if isinstance(op, ast.And) else self.pc.or_kleene
                whole = self.truth(values[0])
                for value in values[1:]:
                    whole = join(whole, self.truth(value))
                return whole
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.pc.invert(self.truth(operand))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                whole = None
                for compare, right in zip(ops, comparators, strict=True):
                    part = self.comparison(left, compare, right)
                    whole = part if whole is None else self.pc.and_kleene(whole, part)
                    left = right
                return whole
            case ast.Name() | ast.Constant(value=bool()):
                value = self.value(node)
                if self.pa.types.is_boolean(value.type):
                    return value
        raise self.refused(node)

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self.refused(right)
            missing = self.pc.is_null(self.value(left))
            return missing if isinstance(op, ast.Is) else self.pc.invert(missing)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set):
                raise self.refused(right)
            value = self.value(left)
            choices = self.pa.array([self.constant(item) for item in right.elts])
            if choices.type != value.type and self.pa.types.is_floating(value.type):
                choices = choices.cast(value.type)
            is_in = self.pc.is_in(value, value_set=choices, skip_nulls=True)
            known = self.pc.is_valid(value)
            return self.pc.and_(is_in if isinstance(op, ast.In) else self.pc.invert(is_in), known)
        return getattr(self.pc, _COMPARE[type(op)])(self.value(left), self.value(right))

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                names = self.table.column_names
                if name not in names:
                    close = difflib.get_close_matches(name, names, 1)
                    offer = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(names))}"
                    raise PredicateError(f"where: no column {_shown(name)}; {offer}")
                return self.table[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                # In float64, so that 1 / 2 is a half and sums of integers do not overflow.
                sides = [self.value(side).cast(self.pa.float64()) for side in (left, right)]
                return getattr(self.pc, _ARITHMETIC[type(op)])(*sides)
            case ast.Constant() | ast.UnaryOp():
                return self.pa.scalar(self.constant(node))
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
            f"where: {_shown(part)} is not allowed; use column names, numbers, strings, comparisons, `in`, `is None`, "
            "`and`, `or` and `not`"
        )
