"""Models that someone signed, with real keys, and those that nobody did."""

import contextlib
import hashlib
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from certificates import PEM, Authority, private_pem
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_archives import zipped
from test_registry import open_registry, program  # noqa: F401 - fixtures
from tiny_networks import yolov8

from weights_sync import __main__ as command
from weights_sync.cache import Cache
from weights_sync.catalogue import Site
from weights_sync.errors import SignatureError
from weights_sync.pull import pull, pull_as_it_is
from weights_sync.signatures import Signatures

model_signing = pytest.importorskip("model_signing", reason="no model-signing: install weights-sync[signing]")
pytestmark = pytest.mark.timeout(1800)

DATA = yolov8().SerializeToString()
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two key pairs: ours and another."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "another"):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.key").write_bytes(private_pem(key))
        public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


def sign(keys, model, signature, name="ours"):
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys / f"{name}.key")
    config.sign(model, signature)


def trusting(keys, policy="", name="ours", **more):
    return Site(signatures=Signatures(policy=policy, key=str(keys / f"{name}.pub")), **more)


@pytest.fixture
def folder(tmp_path, keys):
    """A folder with a signed model, and one that nobody signed."""
    place = tmp_path / "weights"
    place.mkdir()
    for name in ("net.onnx", "bare.onnx"):
        (place / name).write_bytes(DATA)
    sign(keys, place / "net.onnx", place / "net.onnx.sig")
    return place


def test_a_model_that_ours_signed_is_served(folder, keys, tmp_path):
    pull(str(folder / "net.onnx"), tmp_path / "a", site=trusting(keys))
    assert (tmp_path / "a" / "model.onnx").is_file()
    (folder / "net.onnx.sig").rename(folder / "model.sig")
    pull_as_it_is((folder / "net.onnx").as_uri(), tmp_path / "b", site=trusting(keys, "require"))
    assert (tmp_path / "b" / "model.onnx").read_bytes() == DATA


def spoil_bytes(folder, keys):
    (folder / "net.onnx").write_bytes(DATA + b"\x00" * 7)


def spoil_signature(folder, keys):
    (folder / "net.onnx.sig").write_text("{}")


def forge(folder, keys):
    sign(keys, folder / "net.onnx", folder / "net.onnx.sig", "another")


def drop(folder, keys):
    (folder / "net.onnx.sig").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_bytes, "of other bytes"),
        (spoil_signature, "is not good"),
        (forge, "is not good"),
        (drop, "no signature beside it"),
    ],
)
def test_a_model_that_fails_is_not_served_where_signatures_are_required(folder, keys, tmp_path, spoil, reason, capsys):
    spoil(folder, keys)
    with pytest.raises(SignatureError, match=reason) as caught:
        pull_as_it_is(str(folder / "net.onnx"), tmp_path / "a", site=trusting(keys))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a" / "model.onnx").exists()
    pull_as_it_is(str(folder / "net.onnx"), tmp_path / "a", site=trusting(keys, "warn"))
    assert reason in capsys.readouterr().err
    assert (tmp_path / "a" / "model.onnx").is_file()
    with pytest.raises(SignatureError):
        pull_as_it_is(str(folder / "net.onnx"), tmp_path / "a", site=trusting(keys))
    pull_as_it_is(str(folder / "net.onnx"), tmp_path / "b", site=trusting(keys, "off"))
    assert (tmp_path / "b" / "model.onnx").is_file()


def test_a_model_of_the_cache_is_not_trusted_because_it_is_there(folder, keys, tmp_path):
    cache = Cache(tmp_path / "cache")
    with served(folder) as address:
        uri = f"{address}/bare.onnx#sha256={DIGEST}"
        pull(uri, tmp_path / "a", site=Site(cache=cache))
        with pytest.raises(SignatureError, match="no signature"):
            pull(uri, tmp_path / "b", site=trusting(keys, cache=cache))
        with pytest.raises(SignatureError, match="no signature"):
            pull(uri, tmp_path / "a", site=trusting(keys))
        signed = uri.replace("bare", "net")
        pull(signed, tmp_path / "b", site=trusting(keys, cache=cache))
        with pytest.raises(SignatureError, match="is not good"):
            pull(signed, tmp_path / "c", site=trusting(keys, name="another", cache=cache))


@contextlib.contextmanager
def served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_signature_comes_from_the_web_too(folder, keys, tmp_path):
    with served(folder) as address:
        pull_as_it_is(f"{address}/net.onnx", tmp_path / "a", site=trusting(keys))
        with pytest.raises(SignatureError, match="no signature"):
            pull_as_it_is(f"{address}/bare.onnx", tmp_path / "b", site=trusting(keys))


def test_the_signature_in_an_archive_is_of_the_model_in_it(folder, keys, tmp_path):
    signature = (folder / "net.onnx.sig").read_bytes()
    zipped(tmp_path / "a.zip", {"yolo/net.onnx": DATA, "yolo/model.sig": signature})
    pull_as_it_is(str(tmp_path / "a.zip"), tmp_path / "a", site=trusting(keys))
    zipped(tmp_path / "b.zip", {"yolo/net.onnx": DATA + b"\x00", "yolo/model.sig": signature})
    with pytest.raises(SignatureError, match="other bytes"):
        pull_as_it_is(str(tmp_path / "b.zip"), tmp_path / "b", site=trusting(keys))


def test_the_signature_of_an_artefact_is_a_layer_of_it(open_registry, folder, keys, tmp_path):  # noqa: F811
    model = open_registry.blob(DATA, "application/octet-stream", "net.onnx")
    signature = open_registry.blob((folder / "net.onnx.sig").read_bytes(), "application/json", "net.onnx.sig")
    open_registry.manifest("signed", [model, signature])
    open_registry.manifest("bare", [model])
    pull_as_it_is(open_registry.uri(":signed"), tmp_path / "a", site=trusting(keys))
    with pytest.raises(SignatureError, match="no signature"):
        pull_as_it_is(open_registry.uri(":bare"), tmp_path / "b", site=trusting(keys))


def test_a_signer_is_trusted_by_the_authority_of_its_certificate(folder, tmp_path):
    authority, foreign = Authority(), Authority()
    key, certificate = authority.signed("signer", usage=x509.ExtendedKeyUsageOID.CODE_SIGNING)
    for name, data in {"key": key, "crt": certificate, "ca": authority.pem(), "foreign": foreign.pem()}.items():
        (tmp_path / name).write_bytes(data)
    config = model_signing.signing.Config().use_certificate_signer(
        private_key=tmp_path / "key", signing_certificate=tmp_path / "crt", certificate_chain=[tmp_path / "ca"]
    )
    config.sign(folder / "net.onnx", folder / "net.onnx.sig")
    site = Site(signatures=Signatures(certificates=str(tmp_path / "ca")))
    pull_as_it_is(str(folder / "net.onnx"), tmp_path / "a", site=site)
    site = Site(signatures=Signatures(certificates=str(tmp_path / "foreign")))
    with pytest.raises(SignatureError, match="is not good"):
        pull_as_it_is(str(folder / "net.onnx"), tmp_path / "b", site=site)


def test_the_command_and_the_environment_say_whom_to_trust(folder, keys, tmp_path, monkeypatch, capsys):
    uri, public = str(folder / "bare.onnx"), str(keys / "ours.pub")
    assert command.main(["pull", uri, str(tmp_path / "a"), "--signature-key", public]) == 1
    assert "not to be trusted: it has no signature" in capsys.readouterr().err
    monkeypatch.setenv("WEIGHTS_SYNC_SIGNATURE_KEY", public)
    assert command.main(["pull", uri, str(tmp_path / "a")]) == 1
    assert command.main(["pull", uri, str(tmp_path / "a"), "--signature-policy", "warn"]) == 0
    assert "warning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ({"policy": "require"}, "needs a key"),
        ({"policy": "perhaps"}, "no signature policy"),
        ({"identity": "someone@lab.example"}, "with its issuer"),
        ({"key": "a", "certificates": "b"}, "one of"),
        ({"key": "/none.pub"}, "can not read /none.pub"),
    ],
)
def test_a_trust_that_can_not_be_is_named(folder, tmp_path, stated, reason):
    with pytest.raises(SignatureError, match=reason):
        pull_as_it_is(str(folder / "net.onnx"), tmp_path / "a", site=Site(signatures=Signatures(**stated)))


def test_a_key_that_is_none_is_named(folder, keys, tmp_path):
    shutil.copy(folder / "net.onnx", tmp_path / "x.pub")
    with pytest.raises(SignatureError, match="whom to trust can not be read"):
        pull_as_it_is(
            str(folder / "net.onnx"), tmp_path / "a", site=Site(signatures=Signatures(key=str(tmp_path / "x.pub")))
        )
