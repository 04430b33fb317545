from __future__ import annotations

from pathlib import Path

import pyrevm
import pytest
import solcx
from eth_abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding.merkle import MerkleTree, leaf_hash, verify

CALLER = "0x" + "11" * 20
SOURCE = """
pragma solidity ^0.8.20;
import {MerkleProof} from "lib/MerkleProof.sol";
contract Oracle {
    function verify(bytes32[] calldata proof, bytes32 root, bytes32 leaf) external pure returns (bool) {
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }
}
"""
leaf_lists = st.lists(st.binary(max_size=40), min_size=1, max_size=20, unique=True)


def pair(a: bytes, b: bytes) -> bytes:
    return keccak(a + b if a < b else b + a)


def sorted_hashes(count: int) -> tuple[list[bytes], list[bytes]]:
    leaves = sorted((bytes([i]) for i in range(count)), key=leaf_hash)
    return leaves, [leaf_hash(leaf) for leaf in leaves]


def test_openzeppelins_own_example() -> None:
    # README of @openzeppelin/merkle-tree
    leaves = [
        encode(["address", "uint256"], ["0x" + "11" * 20, 5 * 10**18]),
        encode(["address", "uint256"], ["0x" + "22" * 20, 25 * 10**17]),
    ]
    root = "d4dee0beab2d53f2cc83e567171bd2820e49898130a22622b10ead383e90bd77"
    assert MerkleTree(leaves).root.hex() == root


def test_trees_of_one_to_four_leaves_by_hand() -> None:
    leaves, (a,) = sorted_hashes(1)
    assert leaf_hash(b"x") == keccak(keccak(b"x"))
    assert MerkleTree(leaves).root == a
    assert MerkleTree(leaves).proof(0) == []

    leaves, (a, b) = sorted_hashes(2)
    assert MerkleTree(leaves).root == pair(a, b)
    assert MerkleTree(leaves).proof(0) == [b]

    # The array of three leaves is [root, (b a), c, b, a].
    leaves, (a, b, c) = sorted_hashes(3)
    assert MerkleTree(leaves).root == pair(pair(a, b), c)
    assert MerkleTree(leaves).proof(0) == [b, c]
    assert MerkleTree(leaves).proof(2) == [pair(a, b)]

    # The array of four leaves is [root, (b a), (d c), d, c, b, a] with node 1 over d and c.
    leaves, (a, b, c, d) = sorted_hashes(4)
    assert MerkleTree(leaves).root == pair(pair(c, d), pair(a, b))
    assert MerkleTree(leaves).proof(3) == [c, pair(a, b)]


@given(leaf_lists)
def test_each_leaf_verifies_with_its_own_proof_only(leaves: list[bytes]) -> None:
    tree = MerkleTree(leaves)
    for i, leaf in enumerate(leaves):
        proof = tree.proof(i)
        assert verify(tree.root, leaf, proof)
        assert not verify(tree.root, leaf + b"!", proof)
        assert not any(verify(tree.root, other, proof) for other in leaves if other != leaf)


@given(leaf_lists, st.data())
def test_a_changed_proof_does_not_verify(leaves: list[bytes], data: st.DataObject) -> None:
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(index)
    assert not verify(tree.root, leaves[index], [*proof, bytes(32)])
    if proof:
        assert not verify(tree.root, leaves[index], proof[:-1])
        place = data.draw(st.integers(0, len(proof) - 1))
        proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
        assert not verify(tree.root, leaves[index], proof)


@given(leaf_lists, st.randoms(use_true_random=False))
def test_the_root_forgets_the_order(leaves: list[bytes], random) -> None:
    shuffled = random.sample(leaves, len(leaves))
    assert MerkleTree(shuffled).root == MerkleTree(leaves).root


def test_equal_leaves_are_allowed() -> None:
    tree = MerkleTree([b"x", b"x", b"y"])
    assert all(verify(tree.root, leaf, tree.proof(i)) for i, leaf in enumerate([b"x", b"x", b"y"]))


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    leaves, (a, b, c) = sorted_hashes(3)
    root = MerkleTree(leaves).root
    assert root == pair(pair(a, b), c)
    assert not verify(root, a + b, [c])


def test_no_leaves_no_tree() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MerkleTree([])
    for index in (-1, 2):
        with pytest.raises(IndexError):
            MerkleTree([b"a", b"b"]).proof(index)


@pytest.fixture(scope="module")
def openzeppelin(root: Path):
    """OpenZeppelin's MerkleProof.verifyCalldata, in an EVM."""
    library = root / "node_modules" / "@openzeppelin" / "contracts" / "utils" / "cryptography"
    sources = {
        f"lib/{name}.sol": {"content": (library / f"{name}.sol").read_text()} for name in ("MerkleProof", "Hashes")
    }
    output = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {"Oracle.sol": {"content": SOURCE}, **sources},
            "settings": {"evmVersion": "shanghai", "outputSelection": {"*": {"*": ["evm.bytecode.object"]}}},
        },
        solc_binary=root / "contracts" / "tools" / "solc",
    )
    evm = pyrevm.EVM(spec_id="SHANGHAI")
    code = bytes.fromhex(output["contracts"]["Oracle.sol"]["Oracle"]["evm"]["bytecode"]["object"])
    oracle = evm.deploy(CALLER, code)
    selector = keccak(b"verify(bytes32[],bytes32,bytes32)")[:4]

    def check(root: bytes, leaf: bytes, proof: list[bytes]) -> bool:
        call = selector + encode(["bytes32[]", "bytes32", "bytes32"], [proof, root, leaf_hash(leaf)])
        return bool(int.from_bytes(evm.message_call(CALLER, oracle, calldata=call), "big"))

    return check


def test_openzeppelins_contract_agrees(openzeppelin) -> None:
    for count in range(1, 14):
        leaves = [i.to_bytes(32, "big") for i in range(count)]
        tree = MerkleTree(leaves)
        for i, leaf in enumerate(leaves):
            proof = tree.proof(i)
            assert openzeppelin(tree.root, leaf, proof)
            for other in (leaves[i - 1], b"other"):
                assert openzeppelin(tree.root, other, proof) == verify(tree.root, other, proof)
