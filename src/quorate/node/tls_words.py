"""Why TLS failed, in words that say whose fault it is and what to do.

OpenSSL names reasons for programs (``TLSV13_ALERT_CERTIFICATE_REQUIRED``). People who set up
certificates need the sentence. What is not in the tables is passed on as OpenSSL says it.
"""

from __future__ import annotations

import ssl

PLAINTEXT = "it speaks plaintext, and this address takes TLS only: give it certificates"
NO_TLS_HERE = "it speaks TLS, and this address does not: check the port, or set up TLS here"
TLS_RECORD = 0x16
"""First byte of a TLS connection. Nothing that we speak in plaintext begins with it."""

_WRONG_CA = "the authority that signed its certificate is not one of ours (--tls-ca)"
_CERTIFICATE: dict[int, str] = {
    # Codes of X509_verify_cert; see openssl-verification-options(1).
    9: "its certificate is not valid yet: check its dates, and the clocks of both hosts",
    10: "its certificate has expired: give it a new one",
    18: "its certificate is signed by itself and by none of our authorities (--tls-ca)",
    19: _WRONG_CA,
    20: _WRONG_CA,
    21: _WRONG_CA,
    23: "its certificate was revoked",
    26: "its certificate is not made for this use: its extended key usage must allow {use}",
    62: "its certificate is for another host",
    64: "its certificate is for another address",
}
_REASONS: dict[str, str] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate, and this address wants one",
    "NO_CERTIFICATE_RETURNED": "it showed no certificate, and this address wants one",
    "HTTP_REQUEST": PLAINTEXT,
    "WRONG_VERSION_NUMBER": "it does not speak TLS: check the port, or set up TLS there",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are too old",
    "NO_SHARED_CIPHER": "it has no cipher in common with us",
    "NO_PROTOCOLS_AVAILABLE": "it has no version of TLS in common with us",
    # Alerts: what the other side says about us.
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate, and we have shown none",
    "TLSV1_ALERT_UNKNOWN_CA": "it says that it does not know the authority of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that our certificate has expired, or is not valid "
    "yet by its clock",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that our certificate was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it says that our certificate is not made for this use",
    "TLSV1_ALERT_ACCESS_DENIED": "it says that our certificate is not for the node that we are",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it has no version of TLS in common with us",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the handshake: no cipher in common, or it wants "
    "a certificate",
}


def why(error: BaseException, *, serving: bool) -> str:
    """Say why a handshake or a connection failed.

    Args:
        error: what ``ssl`` raised.
        serving: whether we are the side that was dialled.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _CERTIFICATE.get(error.verify_code)
        if words is None:
            return f"its certificate is refused: {error.verify_message}"
        return words.format(use="client authentication" if serving else "server authentication")
    reason = getattr(error, "reason", None) or ""
    return _REASONS.get(reason) or f"TLS failed: {reason.lower().replace('_', ' ') or error}"
