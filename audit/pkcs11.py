"""A log's keys in a token (PKCS #11 v2.40 and later): a signer and a key wrapper whose keys never leave it.

The signing key is Ed25519 (CKM_EDDSA), so signatures are those of RFC 8032 and nobody who verifies can tell where they were
made. The wrapping key is AES-256 and used with CKM_AES_GCM, which takes additional data: so a wrapped key is bound to its
owner inside the token, and wrapped keys have the same bytes as a file's (`audit.wrapping`). CKM_AES_KEY_WRAP has no
additional data, and unwrapping by it would leave an object in the token for each patient. Encrypting is all that the key may
do: it can't be used to carry other keys out of the token.

Sessions and lost tokens are `audit.pkcs11_session`'s part, names `audit.pkcs11_uri`'s.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from audit.errors import PayloadError, SignatureError, TokenError
from audit.note import ED25519, VerifierKey, check_ed25519
from audit.pkcs11_session import TokenKey, find_objects, library, writable_session
from audit.pkcs11_uri import Pkcs11Uri
from audit.wrapping import NONCE_BYTES, associated_data, join_wrapped, split_wrapped

_PRIVATE, _PUBLIC, _SECRET = "PRIVATE_KEY", "PUBLIC_KEY", "SECRET_KEY"
_ID_BYTES = 8
_WRAPPING_KEY_BITS = 256
_TAG_BITS = 128
# PKCS #11 v3.0 §2.3.5 allows either name of the curve: the OID 1.3.101.112 of RFC 8410, or the string "edwards25519".
_CURVES = (bytes.fromhex("06032b6570"), bytes.fromhex("130c") + b"edwards25519")
_POINT_HEADER = bytes.fromhex("0420")  # DER: an octet string of 32 bytes; some tokens give the bare point
_POINT_BYTES = 32
# Never a checkpoint: that has an origin in its first line, and more lines.
_SELF_TEST = b"bedside: do these halves of a key belong together\n"
# Random nonces don't meet this one (2^-96); of what it encrypts nothing is shown but 32 bits of a digest.
_ID_NONCE = bytes(NONCE_BYTES)
_ID_LABEL = b"bedside wrapping key id\n"


class Pkcs11Signer:
    """Signs with an Ed25519 key in a token; safe in many threads."""

    def __init__(self, uri: Pkcs11Uri, name: str) -> None:
        """Finds the key; `name` is the log's origin.

        Raises:
            TokenError: no such key, it can be taken out of the token, or its public half is another key's.
        """
        self._uri = uri
        self._key = TokenKey(uri, _PRIVATE)
        self._key.use(lambda key: _check_kept(uri, key))
        self._verifier_key = VerifierKey(name, ED25519, TokenKey(uri, _PUBLIC).use(_read_point))
        self.sign(_SELF_TEST)

    @property
    def verifier_key(self) -> VerifierKey:
        return self._verifier_key

    def sign(self, message: bytes) -> bytes:
        """The signature, checked before it is given: a token that comes back may hold another key under this name.

        Raises:
            TokenError: the token can't be used, or signs with another key than at first.
        """
        mechanism = library().Mechanism.EDDSA
        signature = self._key.use(lambda key: bytes(key.sign(message, mechanism=mechanism)))
        try:
            check_ed25519(self._verifier_key.public_key, signature, message)
        except SignatureError as exc:
            raise TokenError(f"token key {self._uri}: the private key isn't the public key's") from exc
        return signature

    def __repr__(self) -> str:
        return f"Pkcs11Signer({self._uri})"


class Pkcs11Wrapper:
    """Wraps under an AES-256 key in a token; safe in many threads."""

    def __init__(self, uri: Pkcs11Uri, random_bytes: Callable[[int], bytes]) -> None:
        """Finds the key; raises TokenError where there is none, or it can be taken out of the token."""
        self._uri = uri
        self._random_bytes = random_bytes
        self._key = TokenKey(uri, _SECRET)
        self._key.use(lambda key: _check_kept(uri, key))
        self._key_id = self._key.use(_wrapping_key_id)

    @property
    def key_id(self) -> str:
        """`wrap:` and 8 hex digits, by what the key encrypts: the token doesn't give the key itself."""
        return self._key_id

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """`key` wrapped for `context`; raises TokenError."""
        nonce = self._random_bytes(NONCE_BYTES)
        return join_wrapped(nonce, self._key.use(lambda token: _encrypt(token, nonce, key, associated_data(context))))

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The key.

        Raises:
            PayloadError: it was wrapped under another key, for another context, or altered.
            TokenError: the token can't be used.
        """
        nonce, ciphertext = split_wrapped(wrapped)
        return self._key.use(lambda token: self._decrypt(token, nonce, ciphertext, associated_data(context)))

    def _decrypt(self, key: Any, nonce: bytes, ciphertext: bytes, context: bytes) -> bytes:
        names = library()
        parameters = names.GCMParams(nonce, context, _TAG_BITS)
        try:
            return bytes(key.decrypt(ciphertext, mechanism=names.Mechanism.AES_GCM, mechanism_param=parameters))
        except names.PKCS11Error as exc:
            # A wrong tag is CKR_GENERAL_ERROR in SoftHSM, as is much else; if the key is still at work, it was the tag.
            if _wrapping_key_id(key) != self._key_id:
                raise
            raise PayloadError("wrapped key: altered, of another owner, or under another wrapping key") from exc

    def __repr__(self) -> str:
        return f"Pkcs11Wrapper({self._uri})"


def make_signing_key(uri: Pkcs11Uri, random_bytes: Callable[[int], bytes]) -> Pkcs11Uri:
    """Makes an Ed25519 key in the token, and gives its whole name: with an id, where `uri` has none.

    Raises:
        TokenError: there is a key of this name, or the token can't make one.
    """
    names = library()
    named = _named(uri, random_bytes)
    with writable_session(uri) as session:
        _check_free(session, uri)
        for curve in _CURVES:
            try:
                _generate_pair(session, named, curve)
                return named
            except (names.DomainParamsInvalid, names.AttributeValueInvalid, names.GeneralError) as exc:
                refused = exc
        raise refused


def make_wrapping_key(uri: Pkcs11Uri, random_bytes: Callable[[int], bytes]) -> Pkcs11Uri:
    """Makes an AES-256 key in the token, and gives its whole name: with an id, where `uri` has none.

    Raises:
        TokenError: there is a key of this name, or the token can't make one.
    """
    names = library()
    named = _named(uri, random_bytes)
    with writable_session(uri) as session:
        _check_free(session, uri)
        session.generate_key(
            names.KeyType.AES,
            _WRAPPING_KEY_BITS,
            id=named.id,
            label=named.object,
            store=True,
            capabilities=names.MechanismFlag.ENCRYPT | names.MechanismFlag.DECRYPT,
            template=_kept(names),
        )
    return named


def destroy_key(uri: Pkcs11Uri) -> None:
    """Destroys every key of this name in the token; nothing where there is none. Raises TokenError."""
    with writable_session(uri) as session:
        for object_class in (_PRIVATE, _PUBLIC, _SECRET):
            for found in find_objects(session, uri, object_class):
                found.destroy()


def _generate_pair(session: Any, uri: Pkcs11Uri, curve: bytes) -> None:
    names = library()
    attributes = {names.Attribute.EC_PARAMS: curve}
    parameters = session.create_domain_parameters(names.KeyType.EC_EDWARDS, attributes, local=True)
    parameters.generate_keypair(
        mechanism=names.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        id=uri.id,
        label=uri.object,
        store=True,
        capabilities=names.MechanismFlag.SIGN | names.MechanismFlag.VERIFY,
        private_template=_kept(names),
    )


def _kept(names: Any) -> dict[Any, bool]:
    return {names.Attribute.SENSITIVE: True, names.Attribute.EXTRACTABLE: False}


def _check_kept(uri: Pkcs11Uri, key: Any) -> None:
    """Returns if the key can't leave its token."""
    attribute = library().Attribute
    if key[attribute.EXTRACTABLE] or not key[attribute.SENSITIVE]:
        raise TokenError(f"token key {uri}: expected sensitive and not extractable")


def _check_free(session: Any, uri: Pkcs11Uri) -> None:
    if uri.object is None:
        raise TokenError("a new token key: expected a uri with object, its label")
    if any(find_objects(session, uri, object_class) for object_class in (_PRIVATE, _PUBLIC, _SECRET)):
        raise TokenError(f"token key {uri}: exists already")


def _named(uri: Pkcs11Uri, random_bytes: Callable[[int], bytes]) -> Pkcs11Uri:
    return uri if uri.id is not None else replace(uri, id=random_bytes(_ID_BYTES))


def _read_point(key: Any) -> bytes:
    point = bytes(key[library().Attribute.EC_POINT])
    if len(point) == len(_POINT_HEADER) + _POINT_BYTES:
        point = point.removeprefix(_POINT_HEADER)
    if len(point) != _POINT_BYTES:
        raise TokenError("token key: expected an Ed25519 public key")
    return point


def _wrapping_key_id(key: Any) -> str:
    probe = _encrypt(key, _ID_NONCE, bytes(_WRAPPING_KEY_BITS // 8), _ID_LABEL)
    return "wrap:" + sha256(_ID_LABEL + probe).hexdigest()[:8]


def _encrypt(key: Any, nonce: bytes, plaintext: bytes, context: bytes) -> bytes:
    names = library()
    parameters = names.GCMParams(nonce, context, _TAG_BITS)
    return bytes(key.encrypt(plaintext, mechanism=names.Mechanism.AES_GCM, mechanism_param=parameters))
