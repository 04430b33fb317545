"""Keys on disk, encrypted."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from fedledger.contracts.chain.records import load_account
from fedledger.protocol.errors import KeyStoreError
from fedledger.storage.foreign_files import read_json, read_text

PASSWORD_VARIABLE = "FEDLEDGER_PASSWORD"
_REMEDY = "Make one with `fedledger keys new`."
MAX_KEY_MEMORY = 2**30
"""Bytes that deriving a key may take; programs of today take a quarter of them."""
MAX_KEY_ROUNDS = 16
"""Passes over them, or millions of iterations."""


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
        document = read_json(path)
        _check_work(document)
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be read: {error.strerror or error}.", _REMEDY) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise KeyStoreError(f"{path} is not an encrypted key: {error}.", _REMEDY) from error
    try:
        return load_account(bytes(Account.decrypt(document, _password(password_file))))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, NotImplementedError) as error:
        raise KeyStoreError(f"{path} cannot be opened: {error}.", "Is the password right?") from error


def _check_work(document: Any) -> None:
    """Raise ValueError if deriving a key would take more memory or time than any program's key files do."""
    crypto = {key.lower(): value for key, value in document.items()}["crypto"]
    params = crypto["kdfparams"]
    memory = 128 * params["n"] * params["r"] if crypto["kdf"] == "scrypt" else 0
    rounds = params["p"] if crypto["kdf"] == "scrypt" else params["c"] >> 20
    if not 0 <= memory <= MAX_KEY_MEMORY or not 0 <= rounds <= MAX_KEY_ROUNDS:
        raise ValueError("it asks for more memory or time than a key file may")


def _password(file: Path | None, confirm: bool = False) -> str:
    if file is not None:
        try:
            password = read_text(file).rstrip("\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise KeyStoreError(f"{file} cannot be read: {reason}.", "Give a file of UTF-8 text.") from error
    elif PASSWORD_VARIABLE in os.environ:
        password = os.environ[PASSWORD_VARIABLE]
    else:
        password = getpass.getpass("Password: ")
        if confirm and getpass.getpass("Again: ") != password:
            raise KeyStoreError("The two passwords differ.", "Try again.")
    if not password:
        raise KeyStoreError("The password is empty.", "Choose one.")
    return password
