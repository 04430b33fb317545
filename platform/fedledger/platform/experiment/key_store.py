"""Keys on disk, encrypted."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.records import load_account
from fedledger.protocol.errors import KeyStoreError

PASSWORD_VARIABLE = "FEDLEDGER_PASSWORD"


def new_key(path: Path, password_file: Path | None = None) -> str:
    """Make a key, write it encrypted for its owner's eyes only, and return its address.

    Raises
    ------
    KeyStoreError
        If the file exists already, or no password is given.
    """
    account = Account.create()
    document = json.dumps(Account.encrypt(account.key, _password(password_file, confirm=True)))
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be written: {error.strerror}.", "Choose another file.") from error
    with os.fdopen(handle, "w") as file:
        file.write(document)
    return str(account.address)


def read_key(path: Path, password_file: Path | None = None) -> LocalAccount:
    """Return the account of an encrypted key.

    Raises
    ------
    KeyStoreError
        If the file is no key store, or the password is wrong.
    """
    try:
        document = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KeyStoreError(
            f"{path} cannot be read: {error.strerror}.", "Make one with `fedledger keys new`."
        ) from error
    try:
        return load_account(bytes(Account.decrypt(document, _password(password_file))))
    except (ValueError, TypeError, KeyError) as error:
        raise KeyStoreError(f"{path} cannot be opened: {error}.", "Is the password right?") from error


def _password(file: Path | None, confirm: bool = False) -> str:
    if file is not None:
        try:
            password = file.read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise KeyStoreError(f"{file} cannot be read: {error.strerror}.") from error
    elif PASSWORD_VARIABLE in os.environ:
        password = os.environ[PASSWORD_VARIABLE]
    else:
        password = getpass.getpass("Password: ")
        if confirm and getpass.getpass("Again: ") != password:
            raise KeyStoreError("The two passwords differ.", "Try again.")
    if not password:
        raise KeyStoreError("The password is empty.", "Choose one.")
    return password
