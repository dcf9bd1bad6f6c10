"""The filter language evaluated in Python over rows of dicts: the twin of its SQL."""

import re


def holds(where, row):
    return all(_part(name, value, row) for name, value in (where or {}).items())


def _part(name, value, row):
    if name == "$and":
        return all(holds(each, row) for each in value)
    if name == "$or":
        return any(holds(each, row) for each in value)
    if name == "$not":
        return not holds(value, row)
    if name in row:
        return _column(value, row[name], _operator)
    column, *path = name.split(".")
    return _column(value, _at(row[column], path), _json_operator)


def _column(condition, cell, operator_holds):
    if not isinstance(condition, dict):
        return operator_holds("$eq", condition, cell)
    return all(operator_holds(operator, operand, cell) for operator, operand in condition.items())


def _operator(operator, operand, cell):
    if operator == "$not":
        return not _column(operand, cell, _operator)
    if operator == "$exists":
        return (cell is not None) == operand
    if operator == "$ne":
        return not _operator("$eq", operand, cell)
    if operator == "$nin":
        return not _operator("$in", operand, cell)
    if operator == "$in":
        return any(_operator("$eq", each, cell) for each in operand)
    if operator == "$contains":
        return cell_contains(cell, operand)
    if operand is None:
        return cell is None
    if cell is None:
        return False
    if operator in ("$like", "$ilike"):
        return like(operand, cell, ignore_case=operator == "$ilike")
    return {
        "$eq": cell == operand,
        "$lt": cell < operand,
        "$lte": cell <= operand,
        "$gt": cell > operand,
        "$gte": cell >= operand,
    }[operator]


def _at(cell, path):
    """What `#>` gives: by key in objects, by position in arrays; None where nothing is."""
    for name in path:
        if isinstance(cell, dict):
            cell = cell.get(name)
        elif isinstance(cell, list) and re.fullmatch(r"-?[0-9]+", name):
            place = int(name)
            cell = cell[place] if -len(cell) <= place < len(cell) else None
        else:
            return None
    return cell


def _json_operator(operator, operand, cell):
    if operator == "$not":
        return not _column(operand, cell, _json_operator)
    if operator == "$exists":
        return (cell is not None) == operand
    if operator == "$ne":
        return not _json_operator("$eq", operand, cell)
    if operator == "$nin":
        return not _json_operator("$in", operand, cell)
    if operator == "$in":
        return any(_json_operator("$eq", each, cell) for each in operand)
    if operator == "$contains":
        return cell_contains(cell, operand)
    if operator == "$eq":
        return (cell is None) if operand is None else same(cell, operand)
    if operator in ("$like", "$ilike"):
        return isinstance(cell, str) and like(operand, cell, ignore_case=operator == "$ilike")
    return kind(cell) == kind(operand) and _operator(operator, operand, cell)


def kind(value):
    """What jsonb_typeof says."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return {str: "string", list: "array", dict: "object"}[type(value)]


def same(left, right):
    """Equality of JSON: 1 is 1.0 and not true."""
    if kind(left) != kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def cell_contains(cell, operand):
    """jsonb's `@>` of a column's value: SQL's NULL contains nothing; an array, a scalar alone."""
    if cell is None:
        return False
    if isinstance(cell, list) and not isinstance(operand, (list, dict)):
        return any(same(each, operand) for each in cell)
    return contains(cell, operand)


def contains(left, right):
    if kind(left) != kind(right):
        return False
    if isinstance(right, dict):
        return all(key in left and contains(left[key], value) for key, value in right.items())
    if isinstance(right, list):
        return all(any(contains(mine, each) for mine in left) for each in right)
    return same(left, right)


def like(pattern, text, *, ignore_case):
    """SQL's LIKE: % any run, _ any character, backslash takes the next character as it is."""
    parts, place = [], 0
    while place < len(pattern):
        character = pattern[place]
        if character == "\\":
            place += 1
            parts.append(re.escape(pattern[place]))
        else:
            parts.append({"%": ".*", "_": "."}.get(character, re.escape(character)))
        place += 1
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.fullmatch("".join(parts), text, flags) is not None
