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
    def serial_number(self) -> int:
        return self._parsed.serial_number

    @property
    def _parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.encode())

    def encrypted_key(self, password: str) -> str:
        """Return the key as PEM text that only the password opens."""
        key = serialization.load_pem_private_key(self.key.encode(), None)
        encryption = serialization.BestAvailableEncryption(password.encode())
        return key.private_bytes(_PEM, _PKCS8, encryption).decode()


class _Signer:
    """A name with a key."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def sign(
        self,
        subject: _Signer,
        *extensions: x509.ExtensionType,
        is_authority: bool = False,
        since: datetime.timedelta = -2 * DAY,
        until: datetime.timedelta = 30 * DAY,
    ) -> str:
        """Return a certificate for the subject as PEM text; times are from now."""
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        public_key = subject.key.public_key()
        builder = (
            x509.CertificateBuilder(self.name, subject.name, public_key, x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(_usage(is_authority=is_authority), critical=True)
        )
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        for extension in (x509.SubjectKeyIdentifier.from_public_key(public_key), issuer_id, *extensions):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM).decode()

    def identity(self, cert: str) -> Identity:
        key = self.key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption())
        return Identity(cert, key.decode())


class Authority(_Signer):
    """Signs server and client certificates; `cert` is what its users have to trust.

    With an issuer it is an intermediate one, which comes along with each certificate.
    """

    def __init__(self, name: str, *, issuer: Authority | None = None, until: datetime.timedelta = 30 * DAY) -> None:
        super().__init__(name)
        self.cert = (issuer or self).sign(self, is_authority=True, until=until)
        self._chain = self.cert if issuer else ""

    def server(self, *hosts: str, **times: datetime.timedelta) -> Identity:
        """Issue a server certificate for host names and addresses."""
        return self._issue(hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, _names(hosts), **times)

    def client(self, name: str, **times: datetime.timedelta) -> Identity:
        """Issue a client certificate for a user."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, **times)

    def revocations(self, *identities: Identity) -> str:
        """Return the list of the certificates that are revoked, as PEM text."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder(self.name, now - DAY, now + DAY)
        for identity in identities:
            certificate = x509.RevokedCertificateBuilder(identity.serial_number, now - DAY).build()
            builder = builder.add_revoked_certificate(certificate)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(_PEM).decode()

    def _issue(
        self, name: str, purpose: x509.ObjectIdentifier, *extensions: x509.ExtensionType, **times: datetime.timedelta
    ) -> Identity:
        subject = _Signer(name)
        cert = self.sign(subject, x509.ExtendedKeyUsage([purpose]), *extensions, **times)  # type: ignore[arg-type]
        return subject.identity(cert + self._chain)


def self_signed(*hosts: str) -> Identity:
    """Make a server certificate that vouches for itself and is no authority."""
    signer = _Signer(hosts[0])
    return signer.identity(signer.sign(signer, _names(hosts)))


def _names(hosts: tuple[str, ...]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(host) for host in hosts])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
