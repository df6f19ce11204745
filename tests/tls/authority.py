"""A certificate authority that lives for one test run.

Its certificates carry what a strict verifier asks for (key usage and both key
identifiers), so that a refusal in a test has the one reason that the test gave it.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SECOND = datetime.timedelta(seconds=1)
DAY = datetime.timedelta(days=1)

_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, each as PEM text."""

    cert: str
    key: str

    @property
    def der(self) -> bytes:
        return self._parsed.public_bytes(serialization.Encoding.DER)

    @property
    def ends(self) -> datetime.datetime:
        return self._parsed.not_valid_after_utc

    @property
    def _parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.encode())

    def encrypted_key(self, password: str) -> str:
        """Return the key as PEM text that only the password opens."""
        key = serialization.load_pem_private_key(self.key.encode(), None)
        encryption = serialization.BestAvailableEncryption(password.encode())
        return key.private_bytes(_PEM, _PKCS8, encryption).decode()


class Authority:
    """Signs server and client certificates; `cert` is what its users have to trust.

    With an issuer it is an intermediate one, which comes along with each certificate.
    """

    def __init__(self, name: str, *, issuer: Authority | None = None, until: datetime.timedelta = 30 * DAY) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        signer = issuer or self
        builder = _builder(self._name, signer._name, self._key, signer._key, *_span(-2 * DAY, until))
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        self.cert = _pem_from_cert(builder.sign(signer._key, hashes.SHA256()))
        self._chain = self.cert if issuer else ""

    def server(self, *hosts: str, since: datetime.timedelta = -DAY, until: datetime.timedelta = 30 * DAY) -> Identity:
        """Issue a server certificate for host names and addresses; times are from now."""
        return self._issue(hosts[0], hosts, ExtendedKeyUsageOID.SERVER_AUTH, since, until)

    def client(
        self, name: str, *, since: datetime.timedelta = -2 * DAY, until: datetime.timedelta = 30 * DAY
    ) -> Identity:
        """Issue a client certificate for a user; times are from now."""
        return self._issue(name, (), ExtendedKeyUsageOID.CLIENT_AUTH, since, until)

    def _issue(
        self,
        name: str,
        hosts: tuple[str, ...],
        purpose: x509.ObjectIdentifier,
        since: datetime.timedelta,
        until: datetime.timedelta,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _leaf(_name(name), self._name, key, self._key, hosts, *_span(since, until))
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        cert = builder.sign(self._key, hashes.SHA256())
        return Identity(_pem_from_cert(cert) + self._chain, _pem_from_key(key))


def self_signed(*hosts: str) -> Identity:
    """Make a server certificate that vouches for itself and is no authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(hosts[0])
    builder = _leaf(name, name, key, key, hosts, *_span())
    return Identity(_pem_from_cert(builder.sign(key, hashes.SHA256())), _pem_from_key(key))


def _span(
    since: datetime.timedelta = -DAY, until: datetime.timedelta = 30 * DAY
) -> tuple[datetime.datetime, datetime.datetime]:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    return now + since, now + until


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
    )


def _leaf(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: tuple[str, ...],
    since: datetime.datetime,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    builder = _builder(subject, issuer, key, signer, since, until)
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    if hosts:
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_from_cert(cert: x509.Certificate) -> str:
    return cert.public_bytes(_PEM).decode()


def _pem_from_key(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption()).decode()
