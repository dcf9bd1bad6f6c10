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
    return _column(value, row[name])


def _column(condition, cell):
    if not isinstance(condition, dict):
        return _operator("$eq", condition, cell)
    return all(_operator(operator, operand, cell) for operator, operand in condition.items())


def _operator(operator, operand, cell):
    if operator == "$not":
        return not _column(operand, cell)
    if operator == "$exists":
        return (cell is not None) == operand
    if operator == "$ne":
        return not _operator("$eq", operand, cell)
    if operator == "$nin":
        return not _operator("$in", operand, cell)
    if operator == "$in":
        return any(_operator("$eq", each, cell) for each in operand)
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
