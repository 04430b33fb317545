"""A posted task's model as torch loads it."""

from __future__ import annotations

from collections.abc import Set

from fedledger.learning.posted_model import PostedModel
from fedledger.protocol.encoding import tensors
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.spec import TaskSpec
from fedledger.storage.base import Readable


def model_state(spec: TaskSpec, store: Readable, model: ContentRef, trusted: Set[str]) -> bytes:
    """Return a model of a task as a safetensors file, which a fresh module of its kind loads strictly.

    Parameters
    ----------
    spec, store
        The task's spec, and where content is fetched.
    model
        Which model.
    trusted
        CIDs of code that may run here.

    Raises
    ------
    ConfigError
        If the model is none of the task's.
    StoreError
        If content cannot be had.
    TrustError
        If the task brings code of its own that is not trusted.
    """
    flat = PostedModel.read(spec, store, trusted).flat()
    flat.load(ModelFile.decode(store.get(model), spec.tensors).vector)
    return tensors.encode(flat.state(), further=True)
