"""What a node's answers must look like, and that they are about what was asked: nothing else is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedledger.contracts.chain.answers import QUANTITY

_OCTETS = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_STATUS = (0, 1)


def contradiction(method: str, params: list[Any], answer: Any) -> str | None:
    """Return what is wrong with an answer; None if nothing is, or nobody here knows what it should be."""
    check = _CHECKS.get(method)
    try:
        if check is None or check(params, answer):
            return None
    except (LookupError, TypeError, ValueError, AttributeError):
        pass
    return f"the answer is none to that question: {answer!r:.200}"


def _is(kind: re.Pattern[str]) -> Callable[[list[Any], Any], bool]:
    return lambda params, answer: _like(kind, answer)


def _like(kind: re.Pattern[str], answer: Any) -> bool:
    return isinstance(answer, str) and kind.fullmatch(answer) is not None


def _quantities(answer: Mapping[str, Any], *names: str) -> bool:
    return all(_like(QUANTITY, answer[name]) for name in names)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _is_block(params: list[Any], answer: Any) -> bool:
    if answer is None:
        return True
    if not (_quantities(answer, "number", "timestamp", "gasUsed") and _like(_HASH, answer["hash"])):
        return False
    asked, transactions = params[0], answer.get("transactions", [])
    told = [each["hash"] if params[1] else each for each in transactions]
    is_asked = not asked.startswith("0x") or int(asked, 16) == int(answer["number"], 16)
    return is_asked and all(_like(_HASH, each) for each in told)


def _is_transaction(params: list[Any], answer: Any) -> bool:
    return answer is None or (_same(answer["hash"], params[0]) and _like(_OCTETS, answer["input"]))


def _is_receipt(params: list[Any], answer: Any) -> bool:
    if answer is None:
        return True
    return (
        _same(answer["transactionHash"], params[0])
        and _quantities(answer, "blockNumber", "gasUsed", "cumulativeGasUsed", "status")
        and int(answer["status"], 16) in _STATUS
        and all(_is_log(each) for each in answer["logs"])
    )


def _are_logs(params: list[Any], answer: Any) -> bool:
    return isinstance(answer, list) and all(_is_log(each) and _is_asked(params[0], each) for each in answer)


def _is_log(log: Any) -> bool:
    return (
        _like(_ADDRESS, log["address"])
        and _like(_OCTETS, log["data"])
        and _like(_HASH, log["transactionHash"])
        and _quantities(log, "blockNumber", "logIndex")
        and isinstance(log["topics"], list)
        and all(_like(_HASH, topic) for topic in log["topics"])
        and not log.get("removed")
    )


def _is_asked(asked: Mapping[str, Any], log: Mapping[str, Any]) -> bool:
    number = int(log["blockNumber"], 16)
    within = "fromBlock" not in asked or int(asked["fromBlock"], 16) <= number <= int(asked["toBlock"], 16)
    chosen = asked.get("topics") or [None]
    first = chosen[0] is None or log["topics"][0].lower() in {topic.lower() for topic in chosen[0]}
    return within and first and _same(log["address"], asked["address"])


_CHECKS: Mapping[str, Callable[[list[Any], Any], bool]] = {
    **dict.fromkeys(("eth_blockNumber", "eth_chainId", "eth_gasPrice"), _is(QUANTITY)),
    **dict.fromkeys(("eth_getBalance", "eth_getTransactionCount"), _is(QUANTITY)),
    **dict.fromkeys(("eth_getCode", "eth_call"), _is(_OCTETS)),
    "eth_sendRawTransaction": _is(_HASH),
    "eth_sendTransaction": _is(_HASH),
    "eth_accounts": lambda params, answer: bool(answer) and all(_like(_ADDRESS, each) for each in answer),
    "eth_getBlockByNumber": _is_block,
    "eth_getTransactionByHash": _is_transaction,
    "eth_getTransactionReceipt": _is_receipt,
    "eth_getLogs": _are_logs,
}
