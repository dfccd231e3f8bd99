"""Whether a token's signature is good, at one cost for every token: `Signatures.is_good`.

A refusal that is quicker than a bad signature would tell a stranger which issuers, audiences and keys are known here. So
where there is no key to check with, a decoy's takes its place: of the same algorithm and for a signature of the same length,
so that the work depends on what was sent and not on what we know. Nothing sleeps: that would hold a thread for every forged
token.
"""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from cds_service.bearer import REGISTRY, Token
from cds_service.key_sets import PublicKey

_EC_SIGNATURE_BYTES = {"ES256": ("P-256", 64), "ES384": ("P-384", 96), "ES512": ("P-521", 132)}
_EDDSA_SIGNATURE_BYTES = 64
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_RSA_SIGNATURE_BYTES = (256, 384, 512)  # keys of 2,048, 3,072 and 4,096 bits: all that are in use
_SAMPLE_ALGORITHM = "ES384"


class Signatures:
    """Checks signatures; its decoys are made once, and no one has signed with them or could."""

    def __init__(self) -> None:
        rsa = {length: _rsa_decoy(length) for length in _RSA_SIGNATURE_BYTES}
        ed25519 = OKPKey.generate_key("Ed25519", private=False)
        self._decoys: dict[tuple[str, int], PublicKey] = {
            **{(alg, length): key for alg in _RSA_ALGORITHMS for length, key in rsa.items()},
            **{
                (alg, length): ECKey.generate_key(curve, private=False)
                for alg, (curve, length) in _EC_SIGNATURE_BYTES.items()
            },
            **{(alg, _EDDSA_SIGNATURE_BYTES): ed25519 for alg in ("EdDSA", "Ed25519")},
        }
        # For what is no token, or has a signature of no length its algorithm gives. Another key signed it: it is bad.
        sample = jws.serialize_compact(
            {"alg": _SAMPLE_ALGORITHM}, b"{}", ECKey.generate_key("P-384", private=True), registry=REGISTRY
        )
        self._sample = jws.extract_compact(sample.encode("ascii"), registry=REGISTRY)
        self._sample_key = self._decoys[_SAMPLE_ALGORITHM, _EC_SIGNATURE_BYTES[_SAMPLE_ALGORITHM][1]]

    def is_good(self, token: Token | None, key: PublicKey | None) -> bool:
        """Whether `key` signed `token`; without one of the two it is bad, after as much work.

        The algorithm is the one that the token names: the caller has found it to be one of the client's, and fit for the key.
        """
        if token is not None:
            if key is not None and token.signature_bytes == _signature_bytes(key):
                return _verify(token.jws, key)
            alg = token.header["alg"]
            decoy = self._decoys.get((alg, token.signature_bytes))
            if decoy is not None:
                _verify(token.jws, decoy)
                return False
        _verify(self._sample, self._sample_key)
        return False


def _rsa_decoy(length: int) -> RSAKey:
    """A public key without a private one: its modulus was not made of primes.

    It is as large as can be, since OpenSSL refuses a signature that is larger than the modulus without any work.
    """
    modulus = (2 ** (length * 8) - 1 - secrets.randbits(length * 8 - 64)) | 1
    return RSAKey.import_key(RSAPublicNumbers(65_537, modulus).public_key())


def _signature_bytes(key: PublicKey) -> int:
    match key:
        case RSAKey():
            return (key.public_key.key_size + 7) // 8
        case ECKey():
            return 2 * ((key.curve_key_size + 7) // 8)
        case OKPKey():
            return _EDDSA_SIGNATURE_BYTES


def _verify(token: jws.CompactSignature, key: PublicKey) -> bool:
    try:
        return jws.validate_compact(token, key, registry=REGISTRY)
    except (JoseError, ValueError, TypeError):
        return False
