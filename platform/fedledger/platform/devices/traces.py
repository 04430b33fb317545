"""Traces from CSV files: a link's rates, and a device's availability, over time."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from fedledger.platform.devices.link_presets import MEGABIT
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.schedules.devices import MAX_TRACE, MICRO

RATE_COLUMNS = ("time_s", "down_mbps", "up_mbps")
ONLINE_COLUMNS = ("from_s", "to_s")
MAX_FIELD = 32
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
LARGEST = 1e9


def read_rates(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Read a link's rates: columns ``time_s``, ``down_mbps``, ``up_mbps``, one line for each change, the first at 0.

    Raises
    ------
    ConfigError
        Naming the first line that is wrong.
    """
    rates: list[tuple[int, int, int]] = []
    for line, (time, down, up) in _rows(path, RATE_COLUMNS):
        row = round(time * MICRO), round(down * MEGABIT), round(up * MEGABIT)
        if not rates and row[0] != 0:
            raise _wrong(path, line, "the first time is not 0")
        if rates and row[0] <= rates[-1][0]:
            raise _wrong(path, line, "its time is not after the line before")
        rates.append(row)
    return tuple(rates)


def read_online(path: Path) -> tuple[tuple[int, int], ...]:
    """Read when a device is online: columns ``from_s``, ``to_s``, one line for each window, in order.

    Raises
    ------
    ConfigError
        Naming the first line that is wrong.
    """
    windows: list[tuple[int, int]] = []
    for line, (begin, end) in _rows(path, ONLINE_COLUMNS):
        window = round(begin * MICRO), round(end * MICRO)
        if window[0] >= window[1]:
            raise _wrong(path, line, "its window ends before it begins")
        if windows and window[0] <= windows[-1][1]:
            raise _wrong(path, line, "its window does not begin after the one before")
        windows.append(window)
    return tuple(windows)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[float]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if sorted(header) != sorted(columns):
                raise _wrong(path, 1, f"the columns are not {', '.join(columns)}")
            places = [header.index(name) for name in columns]
            empty = True
            for row in reader:
                if not row:
                    continue
                empty = False
                if reader.line_num > MAX_TRACE:
                    raise _wrong(path, reader.line_num, f"there are more than {MAX_TRACE - 1} lines")
                if len(row) != len(columns):
                    raise _wrong(path, reader.line_num, f"it has {len(row)} fields, not {len(columns)}")
                yield reader.line_num, [_number(path, reader.line_num, row[place]) for place in places]
            if empty:
                raise _wrong(path, 2, "there is nothing below the columns' names")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path of the trace.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is not a CSV file: {error}.", "Save it as CSV in UTF-8.") from error


def _number(path: Path, line: int, text: str) -> float:
    text = text.strip()
    if len(text) > MAX_FIELD or not _NUMBER.fullmatch(text) or float(text) > LARGEST:
        raise _wrong(path, line, f"{text[:MAX_FIELD]!r} is not a number from 0 to {LARGEST:g}")
    return float(text)


def _wrong(path: Path, line: int, what: str) -> ConfigError:
    return ConfigError(f"{path}, line {line}: {what}.", "See docs/devices.md for the columns.")
