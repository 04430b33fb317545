"""Participants' states: a dictionary, in bounded memory, that returns to its last checkpoint."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedledger.platform.engine.participant_states import ParticipantStates
from fedledger.protocol.errors import StoreError

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 255)),
        st.tuples(st.just("get"), st.integers(0, 5), st.just(0)),
        # The program may be killed when the states are written and the checkpoint is not.
        st.tuples(st.just("save"), st.just(0), st.integers(0, 1)),
        st.tuples(st.just("killed"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([1, 3000, 10**9]))
def test_states_are_a_dictionary_that_a_kill_takes_back_to_its_checkpoint(
    steps: list[tuple[str, int, int]], memory: int
) -> None:
    with TemporaryDirectory() as name:
        folder, known, saved, index, checkpoint = Path(name), {}, {}, 0, 0
        states = ParticipantStates(folder, memory)
        for what, number, value in steps:
            index += 1
            if what == "put":
                vector = np.full(300, value, np.float32)
                states.put(number, index, {"control": vector, "other": vector[:2]})
                known[number] = value
            elif what == "save":
                states.save()
                if value:
                    saved, checkpoint = dict(known), index
                    states.forget_before(index)
                    assert len(list(folder.glob("*/*"))) == len(known)
            elif what == "killed":
                states, known, index = ParticipantStates(folder, memory), dict(saved), checkpoint
                states.return_to(checkpoint)
            found = states.get(number)
            assert found["control"].tolist() == [known[number]] * 300 if number in known else found == {}


def test_memory_is_bounded(tmp_path: Path) -> None:
    states = ParticipantStates(tmp_path, memory=100_000)
    for number in range(200):
        states.put(number, 1, {"control": np.full(1000, number, np.float32)})
        assert states._used <= 100_000
    assert [float(states.get(number)["control"][0]) for number in range(200)] == list(map(float, range(200)))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    states = ParticipantStates(tmp_path)
    states.put(3, 1, {"control": np.zeros(3, np.float32)})
    states.save()
    (file,) = tmp_path.glob("*/*.state")
    file.write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"3-1\.state"):
        ParticipantStates(tmp_path).get(3)


def test_a_full_disk_is_told() -> None:
    states = ParticipantStates(Path("/proc/no-such-folder"))
    states.put(0, 1, {"control": np.zeros(3, np.float32)})
    with pytest.raises(StoreError, match="Free some space"):
        states.save()
