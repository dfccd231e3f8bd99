"""Tokens as this process has them open: one PKCS#11 module, logged in once to each of its tokens.

Logging in and out counts for a whole process and token, and C_Finalize must not meet a call at work. So each module has one
lock that every call takes, and one session for each token. A call that fails opens the module anew and is tried again: a
session may be lost because a token was restarted. A PIN that was refused isn't tried again, since a token locks after a few.

After a fork the child has to start the module anew (PKCS #11 v2.40 §2.5.1); it does so at its first call. Needs the extra
`hsm` (python-pkcs11), which is imported with the first key that lies in a token.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from audit.errors import TokenError
from audit.pkcs11_uri import Pkcs11Uri
from audit.private_files import read_private

_Result = TypeVar("_Result")
# A lost session is back at once. But SoftHSM 2.6.1 doesn't see a token for some milliseconds while another process logs in
# to it: of six processes that started together, one in five found none.
_PAUSES_S = (0.0, 0.02, 0.05, 0.1)
_PIN_REFUSED = ("PinIncorrect", "PinInvalid", "PinLenRange", "PinExpired", "PinLocked")


def library() -> ModuleType:
    """python-pkcs11; raises TokenError where it isn't installed."""
    try:
        import pkcs11
    except ImportError as exc:
        raise TokenError("a key in a token needs the extra hsm: pip install 'bedside[hsm]'") from exc
    module: ModuleType = pkcs11
    return module


class TokenKey:
    """A key in a token, looked up again whenever the session to it was lost."""

    def __init__(self, uri: Pkcs11Uri, object_class: str) -> None:
        """Names the key; `object_class` is PRIVATE_KEY, PUBLIC_KEY or SECRET_KEY."""
        self._uri = uri
        self._class = object_class

    def use(self, operation: Callable[[Any], _Result]) -> _Result:
        """What `operation` makes of the key.

        Raises:
            TokenError: the token fails it again and again, though the module was opened anew.
        """
        with _opened(self._uri.module_path) as module:
            return module.call(self._uri, lambda: operation(module.key(self._uri, self._class)))


@contextmanager
def writable_session(uri: Pkcs11Uri) -> Iterator[Any]:
    """A session that may make and destroy objects in the token of `uri`; raises TokenError."""
    with _opened(uri.module_path) as module:
        session = module.call(uri, lambda: module.session(uri).token.open(rw=True))
        try:
            yield session
        except library().PKCS11Error as exc:
            raise _token_error(uri, exc) from exc
        finally:
            module.keys.clear()
            with suppress(library().PKCS11Error):
                session.close()


class _Module:
    """One PKCS#11 module, as this process has it open."""

    def __init__(self, path: str, *, inherited: bool) -> None:
        self.lock = threading.RLock()
        self.keys: dict[tuple[Pkcs11Uri, str], Any] = {}
        self._sessions: dict[tuple[str | None, str | None], Any] = {}
        self._refused: set[bytes] = set()
        try:
            self._library = library().lib(path)
            if inherited:
                self.restart()
        except library().PKCS11Error as exc:
            message = f"pkcs11 module {Path(path).name}: can't be loaded ({type(exc).__name__})"
            raise TokenError(message) from exc

    def call(self, uri: Pkcs11Uri, operation: Callable[[], _Result]) -> _Result:
        """What `operation` gives, with the module opened anew after each failure; raises TokenError after the last."""
        failures = library().PKCS11Error
        for pause_s in _PAUSES_S:
            try:
                return operation()
            except failures:
                time.sleep(pause_s)
                self.restart()
        try:
            return operation()
        except failures as exc:
            raise _token_error(uri, exc) from exc

    def restart(self) -> None:
        """Forgets every session, and opens the module anew."""
        self.keys.clear()
        self._sessions.clear()
        for step in (self._library.finalize, self._library.initialize):
            with suppress(library().PKCS11Error):  # what stays wrong, the next call will say
                step()

    def key(self, uri: Pkcs11Uri, object_class: str) -> Any:
        """The key object; raises TokenError where the token holds none or several of this name."""
        found = self.keys.get((uri, object_class))
        if found is None:
            objects = find_objects(self.session(uri), uri, object_class)
            if len(objects) != 1:
                raise TokenError(f"token key {uri}: expected one {object_class.lower()}, got {len(objects)}")
            found = self.keys[uri, object_class] = objects[0]
        return found

    def session(self, uri: Pkcs11Uri) -> Any:
        """The one session to the token of `uri`, logged in."""
        place = (uri.token, uri.serial)
        if place not in self._sessions:
            tokens = [token for token in self._tokens() if _is_named(token, uri)]
            if not tokens:
                raise library().NoSuchToken
            if len(tokens) > 1:
                raise TokenError(f"token key {uri}: expected one token of this name, got {len(tokens)}")
            self._sessions[place] = self._log_in(tokens[0], uri)
        return self._sessions[place]

    def _tokens(self) -> Iterator[Any]:
        """Every token that answers: one that was taken away must not hide the others."""
        for slot in self._library.get_slots(token_present=True):
            with suppress(library().PKCS11Error):
                yield slot.get_token()

    def _log_in(self, token: Any, uri: Pkcs11Uri) -> Any:
        pin = _pin(uri)
        attempt = sha256(f"{token.label}\0{pin}".encode()).digest()
        if attempt in self._refused:
            raise TokenError(f"token key {uri}: this PIN was refused before and isn't tried again")
        try:
            return token.open(user_pin=library().PROTECTED_AUTH if pin is None else pin)
        except library().UserAlreadyLoggedIn:  # the same token, named in another way
            return token.open()
        except library().PKCS11Error as exc:
            if type(exc).__name__ in _PIN_REFUSED:
                self._refused.add(attempt)
                raise TokenError(f"token key {uri}: the PIN is refused ({type(exc).__name__})") from exc
            raise


def _is_named(token: Any, uri: Pkcs11Uri) -> bool:
    return uri.token in (None, token.label) and uri.serial in (None, token.serial.decode("ascii", "replace"))


def find_objects(session: Any, uri: Pkcs11Uri, object_class: str) -> list[Any]:
    """The objects of a class that bear the label and id of `uri`."""
    names = library()
    with suppress(names.RandomNoRNG):
        # Shows a lost session. Found lost by a search instead, it makes python-pkcs11 0.10 complain once more later, to nobody.
        session.generate_random(8)
    attributes = {names.Attribute.CLASS: names.ObjectClass[object_class]}
    if uri.object is not None:
        attributes[names.Attribute.LABEL] = uri.object
    if uri.id is not None:
        attributes[names.Attribute.ID] = uri.id
    return list(session.get_objects(attributes))


def _pin(uri: Pkcs11Uri) -> str | None:
    """The PIN, from its file at each login, so that a changed one is used; None: the token asks for it."""
    return uri.pin if uri.pin_file is None else read_private(Path(uri.pin_file))


def _token_error(uri: Pkcs11Uri, error: Exception) -> TokenError:
    """Names the key and what the module said, by the name of its return code."""
    return TokenError(f"token key {uri}: {type(error).__name__}")


_modules: dict[str, _Module] = {}
_inherited: set[str] = set()
_modules_lock = threading.Lock()


@contextmanager
def _opened(path: str) -> Iterator[_Module]:
    """The module at `path`, locked."""
    with _modules_lock:
        module = _modules.get(path)
        if module is None:
            module = _modules[path] = _Module(path, inherited=path in _inherited)
    with module.lock:
        yield module


def _forget_after_fork() -> None:
    global _modules_lock  # the old one may be held by a thread that the child does not have
    _modules_lock = threading.Lock()
    _inherited.update(_modules)
    _modules.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
