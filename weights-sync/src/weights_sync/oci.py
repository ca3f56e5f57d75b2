"""Models in a registry of containers: oci://REGISTRY/REPOSITORY[:TAG|@sha256:DIGEST].

Two forms are read. An artefact, as `oras push` makes one: a layer is the file, its title annotation the name. An image,
as KServe's model images are: a layer is a tar archive with the file in `/models`. Formats: the OCI image and
distribution specifications 1.1, and Docker's of the same things.
"""

import hashlib
import http.client
import json
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from weights_sync import sidecar
from weights_sync.archives import unpack
from weights_sync.cache import Cache
from weights_sync.errors import ArchiveError, DigestError, SourceError
from weights_sync.exchange import Login, speaks_tls
from weights_sync.limits import Limits
from weights_sync.login import registry_login
from weights_sync.signatures import beside, names_beside
from weights_sync.transfer import Fetched
from weights_sync.web import download, read

_PART = r"[a-z\d]+(?:(?:\.|_|__|-+)[a-z\d]+)*"
_URI = re.compile(
    r"(?i:oci)://(?P<registry>[\w.-]+(?::\d+)?|\[[\da-fA-F:]+\](?::\d+)?)"
    rf"/(?P<repository>{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>[\w+.-]+:[\da-f]+))?",
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_TITLE = "org.opencontainers.image.title"
_MAX_MANIFEST_BYTES = 4 << 20
"""What the distribution specification lets a registry refuse above."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_MODELS = "models"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a manifest."""

    digest: str
    """`sha256:` and 64 hexadecimal digits."""
    kind: str
    """Media type."""
    title: str
    """Name of the file that the blob is, empty for a layer of an image."""

    @property
    def is_model(self) -> bool:
        """Whether the blob is an ONNX file."""
        return self.title.endswith(".onnx")

    @property
    def is_archive(self) -> bool:
        """Whether the blob is a tar archive, gzipped or not."""
        return ".tar" in self.kind or self.title.endswith((".tar", ".tar.gz", ".tgz"))


def download_artefact(
    uri: str, incoming: Path, limits: Limits, *, wanted: str = "", known: str = "", cache: Cache | None = None
) -> Fetched:
    """Bring the model in a registry to `incoming`, and its signature where it has one.

    `wanted` is the sha256 (hex) of the layer that holds it, `known` the digest of the manifest that is here already.
    """
    reference = _reference(uri)
    if known and known == reference["digest"]:
        return Fetched(incoming, etag=known, unchanged=True)
    source = _source(reference["registry"], reference["repository"], uri, limits, cache)
    digest, manifest = source.manifest(reference["digest"] or reference["tag"] or "latest")
    if known == digest:
        return Fetched(incoming, etag=digest, unchanged=True)
    fetched = source.model(_layers(manifest, source.name), incoming, wanted)
    return replace(fetched, etag=digest)


def read_artefact_mark(uri: str, limits: Limits) -> str:
    """Return the digest of what a tag names now."""
    reference = _reference(uri)
    if reference["digest"]:
        return reference["digest"]
    source = _source(reference["registry"], reference["repository"], uri, limits, None)
    return source.manifest(reference["tag"] or "latest")[0]


def _reference(uri: str) -> re.Match[str]:
    reference = _URI.fullmatch(uri)
    if not reference or (reference["digest"] and not _DIGEST.fullmatch(reference["digest"])):
        raise SourceError("a model in a registry is named as oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST")
    return reference


@dataclass(frozen=True, slots=True)
class _Source:
    """A repository of a registry."""

    address: str
    """Where its manifests and blobs lie."""
    name: str
    limits: Limits
    login: Login
    cache: Cache | None

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """Return the digest of what a tag or digest names, and the manifest: of this platform, where there are many."""
        digest, stated = self._document(reference)
        manifest = stated
        if stated.get("mediaType") in _INDEXES or "manifests" in stated:
            _, manifest = self._document(_of_platform(stated, self.name))
        if not isinstance(manifest.get("layers"), list):
            raise SourceError(f"{self.name} is neither an image nor an artefact with layers")
        return digest, manifest

    def model(self, layers: list[Layer], incoming: Path, wanted: str) -> Fetched:
        """Return the model: the ONNX layer, or what an archive of the layers holds."""
        models = [layer for layer in layers if layer.is_model]
        models = [layer for layer in models if PurePosixPath(layer.title).name == "model.onnx"] or models
        if not models and len(layers) == 1 and not layers[0].is_archive:
            models = layers
        if len(models) == 1:
            title = models[0].title
            yamls = [str(PurePosixPath(title).with_suffix(suffix)) for suffix in sidecar.SUFFIXES] if title else []
            signature = self._beside(layers, names_beside(title), incoming)
            yaml = self._beside(layers, yamls, incoming)
            return replace(self._blob(models[0], incoming, wanted), signature=signature, yaml=yaml)
        if models:
            raise SourceError(f"{self.name} holds {len(models)} models: one .onnx layer, or one model.onnx, is served")
        # The last layer of an image lies on top of the others, and what a build adds last is the model.
        for layer in reversed([layer for layer in layers if layer.is_archive]):
            if "zstd" in layer.kind:
                raise ArchiveError(f"{self.name} has a layer in zstd, which is not read: push it with gzip")
            fetched = self._blob(layer, incoming, "")
            folder = incoming / f"{fetched.sha256[:32]}.unpacked"
            model = unpack(fetched.file, folder, self.limits, under="" if layer.title else _MODELS)
            fetched.file.unlink()
            if model:
                _check(fetched.sha256, wanted)
                return replace(fetched, file=model, unpacked=True, signature=beside(model), yaml=sidecar.beside(model))
        raise ArchiveError(
            f"{self.name} holds no model: it needs a layer with an .onnx file, in /{_MODELS} of an image"
        )

    def _beside(self, layers: list[Layer], names: Collection[str], incoming: Path) -> Path | None:
        """Return the first file of one of those names that the artefact has beside its model."""
        found = (layer for layer in layers if layer.title in names)
        layer = next(found, None)
        return self._blob(layer, incoming, "").file if layer else None

    def _blob(self, layer: Layer, incoming: Path, wanted: str) -> Fetched:
        digest = layer.digest.removeprefix("sha256:")
        _check(digest, wanted)
        part = incoming / f"{digest[:32]}.part"
        address = f"{self.address}/blobs/{layer.digest}"

        def fetch() -> Fetched:
            return download(address, part, self.limits, wanted=digest, login=self.login)

        return self.cache.fetched(digest, incoming, self.limits, fetch) if self.cache else fetch()

    def _document(self, reference: str) -> tuple[str, dict[str, Any]]:
        """Return the digest and the content of a manifest or an index."""
        url = f"{self.address}/manifests/{reference}"
        accept = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}
        answer = read(url, self.limits, _MAX_MANIFEST_BYTES, headers=accept, login=self.login)
        if answer.status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            raise SourceError(f"{self.name} is not for these credentials: log in, or name the login with DOCKER_CONFIG")
        if answer.status == http.client.NOT_FOUND:
            raise SourceError(f"there is no {self.name}")
        if answer.status != http.client.OK:
            raise SourceError(f"{self.name} can not be read: the registry answered {answer.status}")
        digest = f"sha256:{hashlib.sha256(answer.data).hexdigest()}"
        if ":" in reference and digest != reference:
            raise DigestError(f"the manifest of {self.name} is not the one asked for: it is {digest}, not {reference}")
        try:
            stated = json.loads(answer.data)
        except ValueError:
            stated = None
        if not isinstance(stated, dict):
            raise SourceError(f"{self.name} is no manifest: the registry sent {answer.kind}")
        return digest, stated


def _source(registry: str, repository: str, uri: str, limits: Limits, cache: Cache | None) -> _Source:
    host = "registry-1.docker.io" if registry in {"docker.io", "index.docker.io"} else registry
    scheme = "https" if speaks_tls(host, limits) else "http"
    login = registry_login(registry, repository, limits)
    return _Source(f"{scheme}://{host}/v2/{repository}", uri, limits, login, cache)


def _of_platform(index: Mapping[str, Any], name: str) -> str:
    """Return the digest of the manifest for this machine, or of the first: weights run on every machine."""
    machine = platform.machine()
    here = ("linux", _MACHINES.get(machine, machine))
    found = []
    for entry in _mappings(index.get("manifests")):
        stated = _mapping(entry.get("platform"))
        kind = (stated.get("os"), stated.get("architecture"))
        # What is for no platform at all tells about an image, as its provenance does, and is none.
        if kind != ("unknown", "unknown"):
            found.append((kind != here, str(entry.get("digest"))))
    digest = min(found, key=lambda pair: pair[0], default=(True, ""))[1]
    if not _DIGEST.fullmatch(digest):
        raise SourceError(f"{name} lists no image with a sha256")
    return digest


def _layers(manifest: Mapping[str, Any], name: str) -> list[Layer]:
    layers = []
    for stated in _mappings(manifest.get("layers")):
        title = str(_mapping(stated.get("annotations")).get(_TITLE, ""))
        layer = Layer(str(stated.get("digest")), str(stated.get("mediaType", "")), title)
        if not _DIGEST.fullmatch(layer.digest):
            raise SourceError(f"{name} has a layer without a sha256")
        layers.append(layer)
    return layers


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [_mapping(entry) for entry in value] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    """Return what a registry says in an object, and nothing where it is none."""
    return value if isinstance(value, dict) else {}


def _check(found: str, wanted: str) -> None:
    if wanted and found != wanted:
        raise DigestError(f"the bytes are not the ones asked for: their sha256 is {found}, not {wanted}")
