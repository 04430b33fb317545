"""Faster instructions of the EVM, beside py-evm's own."""

from __future__ import annotations

from typing import Any

import pytest
from eth.chains.base import MiningChain
from eth.constants import ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.vm import opcode_values as values
from eth.vm.forks.prague import PragueVM
from eth.vm.message import Message
from eth.vm.transaction_context import BaseTransactionContext
from hypothesis import example, given
from hypothesis import strategies as st

from fedledger.ledger_tools.audit.fast_opcodes import FAST, ONE, STOCK, TWO, replaying_vm
from support.examples import examples

OTHERS = (
    *(values.STOP, values.RETURN, values.REVERT, values.DIV, values.SHA3, values.CALLDATASIZE, values.CALLDATACOPY),
    *(values.GAS, values.PC, values.MSIZE, values.MSTORE8, values.SSTORE, values.SLOAD, values.ADDMOD, values.BYTE),
)
WORDS = st.one_of(
    st.integers(0, 70),
    st.sampled_from([255, 256, 257, 1 << 255, (1 << 256) - 1, (1 << 256) - 32]),
    st.integers(0, (1 << 256) - 1),
)


def states() -> dict[str, Any]:
    """Return a fresh state of each machine."""
    found = {}
    for name, vm in (("stock", PragueVM), ("fast", replaying_vm())):
        chain = MiningChain.configure(name, vm_configuration=((0, vm),), chain_id=1)
        header: Any = {"difficulty": 0, "gas_limit": 30_000_000, "timestamp": 0, "base_fee_per_gas": 1}
        found[name] = chain.from_genesis(AtomicDB(), header, {}).get_vm().state
    return found


STATES = states()


def outcome(name: str, code: bytes, data: bytes, gas: int) -> tuple[Any, ...]:
    """Run code, and return all that came of it."""
    state = STATES[name]
    snapshot = state.snapshot()
    message = Message(gas, ZERO_ADDRESS, ZERO_ADDRESS, 0, data, code)
    context = BaseTransactionContext(gas_price=1, origin=ZERO_ADDRESS)
    found = state.computation_class.apply_computation(state, message, context)
    slots = [state.get_storage(ZERO_ADDRESS, slot) for slot in range(4)]
    state.revert(snapshot)
    stack = [int.from_bytes(word, "big") if isinstance(word, bytes) else word for word in found._stack.values]
    error = type(found._error), str(found._error)
    return error, found.get_gas_remaining(), stack, bytes(found._memory._bytes), found.output, slots


def push(word: int) -> bytes:
    """Return the shortest instruction that pushes a word."""
    size = (word.bit_length() + 7) // 8
    return bytes([values.PUSH0 + size]) + word.to_bytes(size, "big")


def snippet(opcode: int, words: list[int]) -> bytes:
    """Return code that pushes words, the last on top, and then does something with them."""
    return b"".join(push(word) for word in words) + bytes([opcode])


FASTER = [opcode for opcode in STOCK if FAST[opcode] is not STOCK[opcode]]
NEAR = st.integers(0, 200)
SHIFTS = st.one_of(st.integers(0, 300), WORDS)
SNIPPETS = st.one_of(
    st.builds(bytes, st.lists(st.sampled_from([*FASTER, *OTHERS]), min_size=1, max_size=1)),
    st.builds(snippet, st.sampled_from([*TWO, *ONE]), st.lists(WORDS, min_size=2, max_size=2)),
    st.builds(snippet, st.sampled_from([*TWO]), WORDS.map(lambda word: [word, word])),
    st.builds(snippet, st.sampled_from([values.SHL, values.SHR]), st.tuples(WORDS, SHIFTS).map(list)),
    st.builds(snippet, st.sampled_from([values.MSTORE, values.MSTORE8]), st.tuples(WORDS, NEAR).map(list)),
    st.builds(snippet, st.sampled_from([values.MLOAD, values.CALLDATALOAD]), st.tuples(NEAR).map(list)),
    st.builds(snippet, st.just(values.JUMPI), st.tuples(st.integers(0, 1), NEAR).map(list)),
    st.builds(snippet, st.just(values.JUMP), st.tuples(NEAR).map(list)),
    st.just(bytes([values.JUMPDEST])),
)


@examples(500)
@given(
    snippets=st.lists(SNIPPETS, max_size=60),
    words=st.lists(WORDS, max_size=24),
    data=st.binary(max_size=70),
    gas=st.one_of(st.integers(0, 400), st.integers(10_000, 30_000)),
)
# Shifts by a word's length, and by one bit less.
@example(snippets=[snippet(values.SHR, [1 << 255, 255]), snippet(values.SHL, [3, 256])], words=[], data=b"", gas=99)
# Words that begin in memory, and do not end there.
@example(snippets=[snippet(values.MSTORE, [3, 0]), snippet(values.MLOAD, [1])], words=[], data=b"", gas=99)
@example(snippets=[snippet(values.MSTORE, [3, 0]), snippet(values.MSTORE, [5, 31])], words=[], data=b"", gas=99)
# A place that would be good to jump to, if it were no part of what is pushed.
@example(snippets=[snippet(values.JUMP, [4]), push(0x5B5B)], words=[], data=b"", gas=99)
@example(snippets=[snippet(values.JUMPI, [1, 6]), push(0x5B5B)], words=[], data=b"", gas=99)
# For ever.
@example(snippets=[b"\x5b", snippet(values.JUMP, [0])], words=[], data=b"", gas=30_000)
# Code that ends within what is pushed.
@example(snippets=[bytes([values.PUSH32, 1])], words=[1] * 20, data=b"", gas=999)
def test_whatever_is_executed_ends_as_on_py_evm(snippets: list[bytes], words: list[int], data: bytes, gas: int) -> None:
    code = b"".join([*map(push, words), *snippets])
    assert outcome("fast", code, data, gas) == outcome("stock", code, data, gas)


@pytest.mark.parametrize("gas", range(0, 90, 7))
@pytest.mark.parametrize("many", [1020, 1023, 1024, 1025])
def test_a_full_stack_and_the_last_gas_end_a_run_where_they_do_on_py_evm(many: int, gas: int) -> None:
    code = bytes([values.PUSH0] * many + [values.DUP1, values.SWAP1, values.ADD, values.POP])
    assert outcome("fast", code, b"", 2 * many + gas) == outcome("stock", code, b"", 2 * many + gas)
    # Nothing but the fast instructions did it.
    assert all(FAST[opcode] is not STOCK[opcode] for opcode in code)
