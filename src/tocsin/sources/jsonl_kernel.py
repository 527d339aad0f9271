"""The fast reading of JSON lines: a numba kernel for flat objects, judged line by line.

Enters: the bytes of whole lines and the names and kinds of the known fields. Leaves: for every line that is plainly good,
its values (text as Arrow views into the very bytes, nothing copied); for every other line, only its number, and
`tocsin.sources.jsonl` reads it. So this file never decides that a line is bad: what it is unsure of it hands over.
Layer: sources.
"""

from __future__ import annotations

from typing import Any, Final

import numba as nb
import numpy as np

TEXT: Final = 0
INT: Final = 1
FLOAT: Final = 2
BOOL: Final = 3
LIST: Final = 4
TIME: Final = 5

_QUOTE, _BACKSLASH, _NEWLINE, _SPACE, _TAB, _RETURN = 34, 92, 10, 32, 9, 13
_OPEN, _CLOSE, _COLON, _COMMA, _LIST_OPEN, _LIST_CLOSE, _MINUS, _DOT, _ZERO, _NINE = 123, 125, 58, 44, 91, 93, 45, 46, 48, 57
_MAX_DIGITS: Final = 18
_EXACT_MANTISSA: Final = 1 << 53
_POWERS: Final = 10.0 ** np.arange(23)
_US_PER_SECOND: Final = 1_000_000


@nb.njit(cache=True, nogil=True, forceinline=True)
def _blank(data: Any, at: int, end: int) -> int:
    while at < end and (data[at] == _SPACE or data[at] == _TAB or data[at] == _RETURN):
        at += 1
    return at


@nb.njit(cache=True, nogil=True, forceinline=True)
def _string_end(data: Any, at: int, end: int) -> tuple[int, bool]:
    """Return where the string that starts at `at` has its closing quote (-1: nowhere), and whether it has escapes."""
    escaped = False
    while at < end:
        byte = data[at]
        if byte == _QUOTE:
            return at, escaped
        if byte == _BACKSLASH:
            escaped = True
            at += 1
        elif byte < 32:
            return -1, escaped
        at += 1
    return -1, escaped


@nb.njit(cache=True, nogil=True, forceinline=True)
def _hex4(data: Any, at: int, end: int) -> int:
    if at + 4 > end:
        return -1
    code = 0
    for i in range(at, at + 4):
        byte = data[i]
        if 48 <= byte <= 57:
            digit = byte - 48
        elif 97 <= (byte | 32) <= 102:
            digit = (byte | 32) - 87
        else:
            return -1
        code = code * 16 + digit
    return code


@nb.njit(cache=True, nogil=True, forceinline=True)
def _put_utf8(scratch: Any, at: int, code: int) -> int:
    if code < 0x80:
        scratch[at] = code
        return at + 1
    if code < 0x800:
        scratch[at] = 0xC0 | (code >> 6)
        scratch[at + 1] = 0x80 | (code & 63)
        return at + 2
    if code < 0x10000:
        scratch[at] = 0xE0 | (code >> 12)
        scratch[at + 1] = 0x80 | ((code >> 6) & 63)
        scratch[at + 2] = 0x80 | (code & 63)
        return at + 3
    scratch[at] = 0xF0 | (code >> 18)
    scratch[at + 1] = 0x80 | ((code >> 12) & 63)
    scratch[at + 2] = 0x80 | ((code >> 6) & 63)
    scratch[at + 3] = 0x80 | (code & 63)
    return at + 4


@nb.njit(cache=True, nogil=True, forceinline=True)
def _unescape(data: Any, at: int, end: int, scratch: Any, out: int) -> int:
    """Write a string without its escapes to `scratch`; return where it ends there, -1 for an escape that is not sound."""
    while at < end:
        byte = data[at]
        if byte != _BACKSLASH:
            scratch[out] = byte
            out += 1
            at += 1
            continue
        letter = data[at + 1]
        at += 2
        if letter == _QUOTE or letter == _BACKSLASH or letter == 47:
            code = int(letter)
        elif letter == 110:
            code = 10
        elif letter == 116:
            code = 9
        elif letter == 114:
            code = 13
        elif letter == 98:
            code = 8
        elif letter == 102:
            code = 12
        elif letter == 117:
            code = _hex4(data, at, end)
            at += 4
            if 0xD800 <= code <= 0xDBFF and at + 6 <= end and data[at] == _BACKSLASH and data[at + 1] == 117:
                low = _hex4(data, at + 2, end)
                if not 0xDC00 <= low <= 0xDFFF:
                    return -1
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                at += 6
            elif code < 0 or 0xD800 <= code <= 0xDFFF:
                return -1
        else:
            return -1
        out = _put_utf8(scratch, out, code)
    return out


@nb.njit(cache=True, nogil=True, forceinline=True)
def _set_view(views: Any, row: int, source: Any, start: int, length: int, buffer: int) -> None:
    """Write an Arrow string view: length, then the bytes themselves or four of them, buffer number and offset."""
    views[row, 0] = length
    words = 3 if length <= 12 else 1
    for word in range(words):
        value = np.uint32(0)
        for byte in range(4):
            at = word * 4 + byte
            if at < length:
                value |= np.uint32(source[start + at]) << np.uint32(8 * byte)
        views[row, 1 + word] = value
    if length > 12:
        views[row, 2] = buffer
        views[row, 3] = start


@nb.njit(cache=True, nogil=True, forceinline=True)
def _number(data: Any, at: int, end: int) -> tuple[int, int, int, bool]:
    """Read a JSON number of at most 18 digits: (end, digits as one integer with sign, digits after the point, sound)."""
    negative = data[at] == _MINUS
    if negative:
        at += 1
    first = at
    value, digits, after = 0, 0, 0
    while at < end and _ZERO <= data[at] <= _NINE:
        value = value * 10 + (data[at] - _ZERO)
        digits += 1
        at += 1
        if digits > _MAX_DIGITS:
            return at, 0, 0, False
    sound = digits > 0 and not (digits > 1 and data[first] == _ZERO) and not (negative and data[first] == _ZERO)
    if at < end and data[at] == _DOT:
        at += 1
        while at < end and _ZERO <= data[at] <= _NINE:
            value = value * 10 + (data[at] - _ZERO)
            digits += 1
            after += 1
            at += 1
            if digits > _MAX_DIGITS:
                return at, 0, 0, False
        sound = sound and after > 0
    if at < end and (data[at] | 32) == 101:  # an exponent
        sound = False
    return at, -value if negative else value, after, sound


@nb.njit(cache=True, nogil=True, forceinline=True)
def _two(data: Any, at: int) -> int:
    a, b = int(data[at]) - _ZERO, int(data[at + 1]) - _ZERO
    return a * 10 + b if 0 <= a <= 9 and 0 <= b <= 9 else -1


@nb.njit(cache=True, nogil=True, forceinline=True)
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant's days_from_civil), for years from 1."""
    y = year - 1 if month <= 2 else year
    era = y // 400
    yoe = y - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


@nb.njit(cache=True, nogil=True, forceinline=True)
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@nb.njit(cache=True, nogil=True, forceinline=True)
def _time(data: Any, at: int, end: int) -> tuple[int, bool]:
    """Read 2026-01-31T12:00:00[.fraction](Z|+hh:mm) as microseconds UTC; any other spelling is not for here."""
    if end - at < 20 or data[at + 4] != _MINUS or data[at + 7] != _MINUS or data[at + 10] != 84:
        return 0, False
    if data[at + 13] != _COLON or data[at + 16] != _COLON:
        return 0, False
    century, rest = _two(data, at), _two(data, at + 2)
    month, day, hour, minute, second = _two(data, at + 5), _two(data, at + 8), _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    year = century * 100 + rest
    if century < 0 or rest < 0 or year < 1 or not 1 <= month <= 12 or not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59:
        return 0, False
    if not 1 <= day <= _days_in_month(year, month):
        return 0, False
    micros = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
    micros *= _US_PER_SECOND
    at += 19
    if data[at] == _DOT:
        at += 1
        scale, digits = 100_000, 0
        while at < end and _ZERO <= data[at] <= _NINE:
            micros += (int(data[at]) - _ZERO) * scale
            scale //= 10
            digits += 1
            at += 1
        if digits == 0 or digits > 9:
            return 0, False
    if at + 1 == end and data[at] == 90:
        return micros, True
    if at + 6 != end or (data[at] != 43 and data[at] != _MINUS) or data[at + 3] != _COLON:
        return 0, False
    hours, minutes = _two(data, at + 1), _two(data, at + 4)
    if not 0 <= hours <= 23 or not 0 <= minutes <= 59:
        return 0, False
    offset = (hours * 60 + minutes) * 60 * _US_PER_SECOND
    return micros - offset if data[at] == 43 else micros + offset, True


@nb.njit(cache=True, nogil=True, forceinline=True)
def _find_key(data: Any, start: int, length: int, keys: Any, key_offsets: Any, guess: int) -> int:
    count = len(key_offsets) - 1
    for step in range(count):
        column = guess + step
        if column >= count:
            column -= count
        at = key_offsets[column]
        if key_offsets[column + 1] - at != length:
            continue
        same = True
        for i in range(length):
            if keys[at + i] != data[start + i]:
                same = False
                break
        if same:
            return column
    return -1


@nb.njit(cache=True, nogil=True, forceinline=True)
def _word(data: Any, at: int, end: int) -> int:
    """Return the length of true, false or null at this place, 0 for anything else."""
    if at + 4 <= end and data[at] == 116 and data[at + 1] == 114 and data[at + 2] == 117 and data[at + 3] == 101:
        return 4
    if at + 4 <= end and data[at] == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
        return 4
    if at + 5 <= end and data[at] == 102 and data[at + 1] == 97 and data[at + 2] == 108 and data[at + 3] == 115 and data[at + 4] == 101:
        return 5
    return 0


@nb.njit(cache=True, nogil=True)
def scan(
    data: Any, keys: Any, key_offsets: Any, kinds: Any, slots: Any, views: Any, scratch: Any, numbers: Any, floats: Any,
    list_offsets: Any, list_views: Any, valid: Any, line_of: Any, slow: Any,
    earliest_us: int, latest_us: int,
) -> tuple[int, int]:  # fmt: skip
    """Read all lines of `data`; return how many rows were written and how many lines were handed over.

    Args:
        data: uint8, whole lines, checked to be UTF-8.
        keys, key_offsets: The names of the columns, one after another.
        kinds: The kind of each column; `slots`: its row in the arrays of its kind.
        views: uint32 [text slot, row, 4]; buffer 0 is `data`, buffer 1 is `scratch` (as long as `data`).
        numbers: int64 [int, bool or time slot, row]; floats: float64 [float slot, row].
        list_offsets: int32 [list slot, row + 1]; list_views: uint32 [list slot, item, 4].
        valid: uint8 [column, row].
        earliest_us, latest_us: Times outside are handed over.
        line_of: int64, the line number from 0 of each row; slow: int64 [line, 3], number, start and end.
    """
    row, slow_rows, line, start, scratch_at = 0, 0, 0, 0, 0
    size, columns = len(data), len(kinds)
    seen = np.full(columns, -1, np.int64)
    while start < size:
        end = start
        while end < size and data[end] != _NEWLINE:
            end += 1
        at = _blank(data, start, end)
        if at < end:
            for c in range(columns):
                valid[c, row] = 0
            for s in range(len(list_offsets)):
                list_offsets[s, row + 1] = list_offsets[s, row]
            done = _object(
                data, at, end, keys, key_offsets, kinds, slots, views, scratch, scratch_at, numbers, floats, list_offsets, list_views, valid,
                row, line, seen, earliest_us, latest_us,
            )  # fmt: skip
            if done >= 0:
                scratch_at = done
                line_of[row] = line
                row += 1
            else:
                slow[slow_rows, 0], slow[slow_rows, 1], slow[slow_rows, 2] = line, start, end
                slow_rows += 1
        start = end + 1
        line += 1
    return row, slow_rows


@nb.njit(cache=True, nogil=True, forceinline=True)
def _object(
    data: Any, at: int, end: int, keys: Any, key_offsets: Any, kinds: Any, slots: Any, views: Any, scratch: Any, scratch_at: int, numbers: Any,
    floats: Any, list_offsets: Any, list_views: Any, valid: Any, row: int, line: int, seen: Any,
    earliest_us: int, latest_us: int,
) -> int:  # fmt: skip
    """Read one line's object into row `row`; return how far `scratch` is used, or -1 to hand the line over."""
    if data[at] != _OPEN:
        return -1
    at = _blank(data, at + 1, end)
    guess = 0
    while True:
        if at >= end or data[at] != _QUOTE:
            return -1
        close, escaped = _string_end(data, at + 1, end)
        if close < 0 or escaped:
            return -1
        column = _find_key(data, at + 1, close - at - 1, keys, key_offsets, guess)
        if column < 0 or seen[column] == line:
            return -1
        seen[column] = line
        guess = column + 1
        at = _blank(data, close + 1, end)
        if at >= end or data[at] != _COLON:
            return -1
        at = _blank(data, at + 1, end)
        if at >= end:
            return -1
        at, scratch_at = _value(
            data, at, end, kinds[column], slots[column], views, scratch, scratch_at, numbers, floats, list_offsets, list_views, valid, column, row,
            earliest_us, latest_us,
        )  # fmt: skip
        if at < 0:
            return -1
        at = _blank(data, at, end)
        if at >= end:
            return -1
        if data[at] == _COMMA:
            at = _blank(data, at + 1, end)
            continue
        if data[at] != _CLOSE or _blank(data, at + 1, end) != end:
            return -1
        return scratch_at


@nb.njit(cache=True, nogil=True, forceinline=True)
def _value(
    data: Any, at: int, end: int, kind: int, slot: int, views: Any, scratch: Any, scratch_at: int, numbers: Any, floats: Any, list_offsets: Any,
    list_views: Any, valid: Any, column: int, row: int, earliest_us: int, latest_us: int,
) -> tuple[int, int]:  # fmt: skip
    """Read one value; return where it ends (-1: not of the column's kind) and how far `scratch` is used."""
    byte = data[at]
    if byte == 110:
        return (at + 4 if _word(data, at, end) == 4 else -1), scratch_at
    if kind == TEXT or kind == TIME:
        if byte == _QUOTE:
            close, escaped = _string_end(data, at + 1, end)
            if close < 0:
                return -1, scratch_at
            if kind == TIME:
                micros, sound = _time(data, at + 1, close)
                if not sound or not earliest_us <= micros <= latest_us:
                    return -1, scratch_at
                numbers[slot, row] = micros
            else:
                scratch_at = _text(data, at + 1, close, escaped, views[slot], row, scratch, scratch_at)
                if scratch_at < 0:
                    return -1, 0
            valid[column, row] = 1
            return close + 1, scratch_at
        if kind == TIME:
            return -1, scratch_at
        length = _word(data, at, end)
        if length == 0:
            if byte != _MINUS and not _ZERO <= byte <= _NINE:
                return -1, scratch_at
            stop, _, after, sound = _number(data, at, end)
            if not sound or after:
                return -1, scratch_at
            length = stop - at
        _set_view(views[slot], row, data, at, length, 0)
        valid[column, row] = 1
        return at + length, scratch_at
    if kind == LIST:
        return _list(data, at, end, slot, scratch, scratch_at, list_offsets, list_views, valid, column, row)
    if kind == BOOL:
        length = _word(data, at, end)
        if length == 0:
            return -1, scratch_at
        numbers[slot, row] = 1 if byte == 116 else 0
        valid[column, row] = 1
        return at + length, scratch_at
    if byte != _MINUS and not _ZERO <= byte <= _NINE:
        return -1, scratch_at
    stop, value, after, sound = _number(data, at, end)
    if not sound or (kind == INT and after) or (kind == FLOAT and (abs(value) >= _EXACT_MANTISSA or after > 22)):
        return -1, scratch_at
    if kind == INT:
        numbers[slot, row] = value
    else:
        # Both are exact doubles, so one division rounds once and gives the nearest double (Clinger 1990).
        floats[slot, row] = value / _POWERS[after]
    valid[column, row] = 1
    return stop, scratch_at


@nb.njit(cache=True, nogil=True, forceinline=True)
def _text(data: Any, start: int, close: int, escaped: bool, views: Any, row: int, scratch: Any, scratch_at: int) -> int:
    if not escaped:
        _set_view(views, row, data, start, close - start, 0)
        return scratch_at
    stop = _unescape(data, start, close, scratch, scratch_at)
    if stop < 0:
        return -1
    _set_view(views, row, scratch, scratch_at, stop - scratch_at, 1)
    return stop


@nb.njit(cache=True, nogil=True, forceinline=True)
def _list(
    data: Any, at: int, end: int, slot: int, scratch: Any, scratch_at: int, list_offsets: Any, list_views: Any, valid: Any, column: int, row: int
) -> tuple[int, int]:
    """Read a list of strings; any other list is handed over."""
    if data[at] != _LIST_OPEN:
        return -1, scratch_at
    item = list_offsets[slot, row]
    at = _blank(data, at + 1, end)
    if at < end and data[at] == _LIST_CLOSE:
        valid[column, row] = 1
        return at + 1, scratch_at
    while at < end and data[at] == _QUOTE:
        close, escaped = _string_end(data, at + 1, end)
        if close < 0:
            return -1, scratch_at
        scratch_at = _text(data, at + 1, close, escaped, list_views[slot], item, scratch, scratch_at)
        if scratch_at < 0:
            return -1, 0
        item += 1
        at = _blank(data, close + 1, end)
        if at < end and data[at] == _COMMA:
            at = _blank(data, at + 1, end)
        elif at < end and data[at] == _LIST_CLOSE:
            list_offsets[slot, row + 1] = item
            valid[column, row] = 1
            return at + 1, scratch_at
        else:
            return -1, scratch_at
    return -1, scratch_at
