from hypothesis import given
from hypothesis import strategies as st

from fedledger.protocol.encoding.keccak import keccak


def test_the_hash_of_nothing_is_the_one_that_ethereum_knows() -> None:
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@given(st.binary(max_size=300))
def test_it_is_that_of_another_implementation(data: bytes) -> None:
    from Crypto.Hash.keccak import new

    assert keccak(data) == new(digest_bits=256, data=data).digest()
