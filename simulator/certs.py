"""Certificates: self-signed, or signed by the world's own CA, with thumbprints as H4 writes them.

Keys are EC P-256: cheap enough that sixty-four appliances start in a blink (h4-api 6 saw RSA 2048).
"""

import base64
import datetime as dt
import hashlib
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEAR = dt.timedelta(days=365)
_HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A leaf and its key. `pem` holds both, with the chain."""

    der: bytes
    pem: bytes = field(repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the leaf's DER (h4-api 6)."""
        pairs = hashlib.sha256(self.der).hexdigest().upper()
        return "SHA-256:" + ":".join(pairs[i : i + 2] for i in range(0, 64, 2))

    @property
    def base64(self) -> str:
        """The leaf's DER without armour, as `peerTunnelCert` has it (h4-api 2.2)."""
        return base64.b64encode(self.der).decode()


class Authority:
    """A small CA, for those who let CAs decide whom they trust."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Simulated World CA")
        public = self._key.public_key()
        identifier = x509.SubjectKeyIdentifier.from_public_key(public)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            _draft(name, name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The root, to be trusted."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> Certificate:
        """A certificate for 127.0.0.1 and localhost that this CA vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        draft = _leaf(name, self._certificate.subject, key.public_key())
        draft = draft.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        return _bundle(draft.sign(self._key, hashes.SHA256()), key, self.pem)


def self_signed(name: str) -> Certificate:
    """A certificate for 127.0.0.1 and localhost that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _bundle(_leaf(name, _name(name), key.public_key()).sign(key, hashes.SHA256()), key)


def server_context() -> ssl.SSLContext:
    """A context without session tickets: every connection shows the certificate of its time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context


def present(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Make new connections of `context` present `certificate`. Blocks for one small file."""
    # The ssl module reads certificates from files only.
    with tempfile.TemporaryDirectory(prefix="simulator-") as folder:
        file = Path(folder) / "certificate.pem"
        file.touch(mode=0o600)
        file.write_bytes(certificate.pem)
        context.load_cert_chain(file)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Unknown"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _HOUR)
        .not_valid_after(now + _YEAR)
    )


def _leaf(name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    addresses: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName("localhost"),
    ]
    return (
        _draft(_name(name), issuer, key)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _bundle(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, chain: bytes = b""
) -> Certificate:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(der, private + public + chain)
