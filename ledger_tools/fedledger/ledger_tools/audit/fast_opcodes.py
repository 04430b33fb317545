"""The EVM's most frequent instructions, in a fraction of the time that py-evm takes for them.

Nine tenths of what a ledger's transactions execute are pushes, copies, jumps and arithmetic of small numbers, on which
py-evm spends most of the time in calls and checks. Here, instructions that follow each other and touch nothing but the
stack are done at once, after one look whether there is enough gas for them, enough on the stack and room on it. Jumps
and words of memory are done alike. Where anything is unusual, nothing is touched, and py-evm's own instruction does
it, or raises the error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

from eth.vm import opcode_values as values
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState

Word = int | bytes
"""What the stack holds: py-evm takes a word as a number or as bytes."""
Step = Callable[[list[Word]], None]
Instruction = Callable[[Any], None]
"""Takes a computation; py-evm calls it with the keyword ``computation``."""

STOCK: Mapping[int, Any] = PragueComputation.opcodes
"""Prague's instructions as py-evm has them."""
BYTES = 32
"""Of a word."""
LARGEST = (1 << 256) - 1
MOST_ON_STACK = 1024
CODES_CACHED = 16

ONE: Mapping[int, Callable[[int], int]] = {
    values.ISZERO: lambda a: int(not a),
    values.NOT: lambda a: LARGEST ^ a,
}
"""What instructions make of the top of the stack."""
TWO: Mapping[int, Callable[[int, int], int]] = {
    values.ADD: lambda a, b: (a + b) & LARGEST,
    values.SUB: lambda a, b: (a - b) & LARGEST,
    values.MUL: lambda a, b: (a * b) & LARGEST,
    values.AND: operator.and_,
    values.OR: operator.or_,
    values.XOR: operator.xor,
    values.EQ: lambda a, b: int(a == b),
    values.LT: lambda a, b: int(a < b),
    values.GT: lambda a, b: int(a > b),
    values.SHL: lambda a, b: (b << a) & LARGEST if a < 256 else 0,
    values.SHR: lambda a, b: b >> a if a < 256 else 0,
}
"""What instructions make of the top of the stack and what is below it."""


def _number(word: Word) -> int:
    return int.from_bytes(word, "big") if isinstance(word, bytes) else word


def _push(word: int, stack: list[Word]) -> None:
    stack.append(word)


def _dup(depth: int, stack: list[Word]) -> None:
    stack.append(stack[-depth])


def _swap(depth: int, stack: list[Word]) -> None:
    stack[-1], stack[-depth - 1] = stack[-depth - 1], stack[-1]


def _pop(stack: list[Word]) -> None:
    stack.pop()


def _one(of: Callable[[int], int], stack: list[Word]) -> None:
    stack[-1] = of(_number(stack[-1]))


def _two(of: Callable[[int, int], int], stack: list[Word]) -> None:
    top, below = stack.pop(), stack[-1]
    if top.__class__ is bytes or below.__class__ is bytes:
        top, below = _number(top), _number(below)
    stack[-1] = of(top, below)  # type: ignore[arg-type]


class _Pure(NamedTuple):
    """An instruction that touches nothing but the stack: how much of that it looks at, and by how much that grows."""

    step: Step | None
    needs: int = 0
    grows: int = 0
    pushed: int = 0


PURE: Mapping[int, _Pure] = {
    **{values.PUSH0 + size: _Pure(None, 0, 1, size) for size in range(BYTES + 1)},
    **{values.DUP1 + depth - 1: _Pure(partial(_dup, depth), depth, 1) for depth in range(1, 17)},
    **{values.SWAP1 + depth - 1: _Pure(partial(_swap, depth), depth + 1) for depth in range(1, 17)},
    **{opcode: _Pure(partial(_one, of), 1) for opcode, of in ONE.items()},
    **{opcode: _Pure(partial(_two, of), 2, -1) for opcode, of in TWO.items()},
    values.POP: _Pure(_pop, 1, -1),
    values.JUMPDEST: _Pure(None),
}


class _Run(NamedTuple):
    """Pure instructions that follow each other: what they do, what they need in all, and where the next one is."""

    steps: tuple[Step, ...]
    gas: int
    needs: int
    grows: int
    end: int


@dataclass
class _Code:
    """What is known of a contract's code: where one may jump to, and the runs that were begun so far by their place."""

    destinations: frozenset[int]
    runs: dict[int, _Run] = field(default_factory=dict)


@lru_cache(maxsize=CODES_CACHED)
def _known(code: bytes) -> _Code:
    """Find where one may jump to: to each JUMPDEST that is no part of what is pushed."""
    found, place = [], 0
    while place < len(code):
        opcode = code[place]
        if opcode == values.JUMPDEST:
            found.append(place)
        place += 1 + (opcode - values.PUSH0 if values.PUSH1 <= opcode <= values.PUSH32 else 0)
    return _Code(frozenset(found))


def _code(computation: Any) -> _Code:
    """Return what is known of the code that a computation executes."""
    try:
        return computation.known_code  # type: ignore[no-any-return]
    except AttributeError:
        # Every computation has a copy of the bytes, and to compare two takes as long as a run.
        computation.known_code = known = _known(computation.code._raw_code_bytes)
        return known


def _run(code: bytes, start: int) -> _Run:
    """Return the longest run that begins at a place; code that ends within what is pushed ends it."""
    steps: list[Step] = []
    gas = needs = grows = highest = 0
    place = start
    while place < len(code) and code[place] in PURE:
        opcode = code[place]
        pure = PURE[opcode]
        after = place + 1 + pure.pushed
        if after > len(code):
            break
        if values.PUSH0 <= opcode <= values.PUSH32:
            steps.append(partial(_push, int.from_bytes(code[place + 1 : after], "big")))
        elif pure.step is not None:
            steps.append(pure.step)
        needs = max(needs, pure.needs - grows)
        grows += pure.grows
        highest = max(highest, grows)
        gas += STOCK[opcode].gas_cost
        place = after
    return _Run(tuple(steps), gas, needs, highest, place)


def _pure(computation: Any) -> None:
    """Do a run of pure instructions, the first of which was just read."""
    meter, stack, code = computation._gas_meter, computation._stack.values, computation.code
    start, runs = code.program_counter - 1, _code(computation).runs
    run = runs.get(start)
    if run is None:
        run = runs[start] = _run(code._raw_code_bytes, start)
    steps, gas, needs, grows, end = run
    if meter.gas_remaining < gas or not needs <= len(stack) <= MOST_ON_STACK - grows or end == start:
        STOCK[code._raw_code_bytes[start]](computation=computation)
        return
    meter.gas_remaining -= gas
    code.program_counter = end
    for step in steps:
        step(stack)


def _jump(computation: Any) -> None:
    meter, stack, code = computation._gas_meter, computation._stack.values, computation.code
    if meter.gas_remaining >= JUMP_GAS and stack:
        where = _number(stack[-1])
        if where in _code(computation).destinations:
            meter.gas_remaining -= JUMP_GAS
            stack.pop()
            code.program_counter = where
            return
    STOCK[values.JUMP](computation=computation)


def _jumpi(computation: Any) -> None:
    meter, stack, code = computation._gas_meter, computation._stack.values, computation.code
    if meter.gas_remaining >= JUMPI_GAS and len(stack) > 1:
        where, jumps = _number(stack[-1]), _number(stack[-2])
        if not jumps or where in _code(computation).destinations:
            meter.gas_remaining -= JUMPI_GAS
            del stack[-2:]
            if jumps:
                code.program_counter = where
            return
    STOCK[values.JUMPI](computation=computation)


def _mload(computation: Any) -> None:
    meter, stack, memory = computation._gas_meter, computation._stack.values, computation._memory._bytes
    if meter.gas_remaining >= MEMORY_GAS and stack:
        start = _number(stack[-1])
        if start + BYTES <= len(memory):
            meter.gas_remaining -= MEMORY_GAS
            stack[-1] = int.from_bytes(memory[start : start + BYTES], "big")
            return
    STOCK[values.MLOAD](computation=computation)


def _mstore(computation: Any) -> None:
    meter, stack, memory = computation._gas_meter, computation._stack.values, computation._memory._bytes
    if meter.gas_remaining >= MEMORY_GAS and len(stack) > 1:
        start = _number(stack[-1])
        if start + BYTES <= len(memory):
            meter.gas_remaining -= MEMORY_GAS
            memory[start : start + BYTES] = _number(stack[-2]).to_bytes(BYTES, "big")
            del stack[-2:]
            return
    STOCK[values.MSTORE](computation=computation)


def _calldataload(computation: Any) -> None:
    meter, stack = computation._gas_meter, computation._stack.values
    if meter.gas_remaining >= CALLDATA_GAS and stack:
        meter.gas_remaining -= CALLDATA_GAS
        start = _number(stack[-1])
        stack[-1] = int.from_bytes(computation.msg.data_as_bytes[start : start + BYTES].ljust(BYTES, b"\0"), "big")
        return
    STOCK[values.CALLDATALOAD](computation=computation)


JUMP_GAS: int = STOCK[values.JUMP].gas_cost
JUMPI_GAS: int = STOCK[values.JUMPI].gas_cost
MEMORY_GAS: int = STOCK[values.MLOAD].gas_cost
CALLDATA_GAS: int = STOCK[values.CALLDATALOAD].gas_cost

FAST: Mapping[int, Any] = {
    **STOCK,
    **dict.fromkeys(PURE, _pure),
    values.JUMP: _jump,
    values.JUMPI: _jumpi,
    values.MLOAD: _mload,
    values.MSTORE: _mstore,
    values.CALLDATALOAD: _calldataload,
}
"""Prague's instructions by opcode, the most frequent of them faster."""


def replaying_vm() -> type[PragueVM]:
    """Return py-evm's Prague machine with these instructions."""
    computation = PragueComputation.configure(__name__="Computation", opcodes=FAST)
    state = PragueState.configure(__name__="State", computation_class=computation)
    machine: type[PragueVM] = PragueVM.configure(__name__="Machine", _state_class=state)
    return machine
