"""Signatures of models, as OpenSSF's `model-signing` makes them: a file beside the weights that says who made them.

The signature of `net.onnx` is `net.onnx.sig`, or `model.sig` in its folder, its archive or its artefact. It is of the
file that is fetched, or of the file in the archive, before anything is prepared.
"""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights_sync.errors import SignatureError

if TYPE_CHECKING:
    from model_signing import verifying

POLICIES = ("require", "warn", "off")


@dataclass(frozen=True, slots=True)
class Signatures:
    """Whose signatures are wanted, and what a model without one may do."""

    policy: str = ""
    """`require`, `warn` or `off`; where it is empty, `require` if there is anyone to trust, `off` else."""
    key: str = ""
    """Path of a public key of an elliptic curve, PEM."""
    certificates: str = ""
    """Paths of certificates that the signer's leads to, joined by colons."""
    identity: str = ""
    """Who signed at Sigstore, with `issuer`, the address of who vouches for that."""
    issuer: str = ""

    @property
    def wanted(self) -> bool:
        """Whether signatures are looked at; an error where they can not be."""
        trusted = [text for text in (self.key, self.certificates, self.identity) if text]
        if self.policy not in {*POLICIES, ""}:
            raise SignatureError(f"there is no signature policy {self.policy[:40]!r}; there are {', '.join(POLICIES)}")
        if len(trusted) > 1 or bool(self.identity) != bool(self.issuer):
            raise SignatureError("whom to trust is one of: a key, certificates, an identity with its issuer")
        if not trusted and self.policy in {"require", "warn"}:
            raise SignatureError(f"the signature policy {self.policy!r} needs a key, certificates or an identity")
        return bool(trusted) and self.policy != "off"

    @property
    def recipe(self) -> str:
        """A digest of all that decides whether a model is trusted, empty where every model is."""
        if not self.wanted:
            return ""
        digest = hashlib.sha256(f"{self.policy} {self.identity} {self.issuer}".encode())
        for file in self._files():
            digest.update(_read(file))
        return digest.hexdigest()

    def check(self, model: Path, signature: Path | None) -> None:
        """Refuse a model without a good signature, or say that it has none, as the policy is."""
        if not self.wanted:
            return
        reason = self._fault(model, signature) if signature else "it has no signature beside it"
        if reason:
            self._complain(f"the model is not to be trusted: {reason}")

    def check_unsigned(self, yaml: Path) -> None:
        """Refuse a YAML that came with a model whose signature is of the model alone, or say so, as the policy is."""
        if self.wanted:
            self._complain(f"nobody signed {yaml.name} beside the model: name it with --sidecar, or --config")

    def _complain(self, complaint: str) -> None:
        if self.policy != "warn":
            raise SignatureError(complaint)
        sys.stderr.write(f"weights-sync: warning: {complaint}\n")

    def _files(self) -> list[Path]:
        return [Path(name) for name in (self.key, *self.certificates.split(":")) if name]

    def _fault(self, model: Path, signature: Path) -> str:
        """Return what is wrong with a signature, empty where it is good."""
        verifier = self._verifier()
        try:
            verifier.verify(model, signature)
        # What the libraries below raise for a bad signature is not told apart from what they raise for a damaged one.
        except Exception as error:  # noqa: BLE001
            text = " ".join(str(error).split())
            if text.startswith("Signature mismatch"):
                return "its signature is of other bytes"
            return f"its signature is not good ({text[:120] or type(error).__name__})"
        return ""

    def _verifier(self) -> "verifying.Config":
        try:
            from model_signing import verifying  # noqa: PLC0415 - an extra, and slow to import
        except ImportError as error:
            raise SignatureError("signatures need an extra: install weights-sync[signing]") from error
        for file in self._files():
            _read(file)
        config = verifying.Config()  # type: ignore[no-untyped-call] # theirs
        try:
            if self.key:
                return config.use_elliptic_key_verifier(public_key=Path(self.key))
            if self.certificates:
                return config.use_certificate_verifier(certificate_chain=self._files())
            return config.use_sigstore_verifier(identity=self.identity, oidc_issuer=self.issuer)
        except (ValueError, TypeError, OSError) as error:
            raise SignatureError(f"whom to trust can not be read: {' '.join(str(error).split())[:120]}") from error


def beside(model: Path) -> Path | None:
    """Return the signature that lies beside a file."""
    for name in names_beside(model.name):
        if (model.parent / name).is_file():
            return model.parent / name
    return None


def names_beside(name: str) -> tuple[str, str]:
    """Return the names that the signature of a file may have."""
    return (f"{name}.sig", "model.sig")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SignatureError(f"can not read {file}: {error.strerror}") from error
