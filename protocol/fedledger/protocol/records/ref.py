"""Content by CID and length, as documents name it."""

from __future__ import annotations

from pydantic import Field, model_validator

from fedledger.protocol.documents import Document
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.errors import StoreError


class Ref(Document):
    """Content by CID and length."""

    cid: str
    length: int = Field(ge=0, lt=2**53)

    @model_validator(mode="after")
    def _one_spelling(self) -> Ref:
        try:
            spelt = self.ref.cid
        except StoreError as error:
            raise ValueError(error.message) from error
        if spelt != self.cid:
            raise ValueError(f"{self.cid} is spelt in another way than {spelt}")
        return self

    @classmethod
    def of(cls, ref: ContentRef) -> Ref:
        """Return the document of a content reference."""
        return cls(cid=ref.cid, length=ref.length)

    @property
    def ref(self) -> ContentRef:
        """The content reference itself."""
        return ContentRef.parse(self.cid, self.length)
