"""Everything this package refuses, as one tree; each message is one line that a person can act on."""

from typing import ClassVar


class WeightsError(Exception):
    """Weights that can not be fetched, verified or prepared."""

    http_status: ClassVar[int] = 400
    grpc_status: ClassVar[str] = "INVALID_ARGUMENT"


class SourceError(WeightsError):
    """The source can not be read: unknown scheme, missing file, refused or broken transfer."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class UnknownModelError(SourceError):
    """The catalogue has no such name."""

    http_status = 404
    grpc_status = "NOT_FOUND"


class CatalogueError(WeightsError):
    """A catalogue file is not one."""


class DeadlineError(SourceError):
    """The whole of the work took longer than it may."""

    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class NoSpaceError(SourceError):
    """The disk has no room for the weights."""

    http_status = 507
    grpc_status = "RESOURCE_EXHAUSTED"


class BusyError(WeightsError):
    """Another writer holds the directory."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class NoVersionError(WeightsError):
    """There is no whole version to go back to."""

    http_status = 404
    grpc_status = "NOT_FOUND"


class DigestError(WeightsError):
    """The bytes are not the ones that were asked for."""


class SignatureError(WeightsError):
    """Nobody who is trusted signed the weights, or who is trusted can not be told."""


class TooLargeError(WeightsError):
    """The weights are over the size limit."""

    http_status = 413


class ArchiveError(WeightsError):
    """The archive is damaged, or not one to unpack."""


class ModelError(WeightsError):
    """The file was read, and is refused as a model."""


class DamagedModelError(ModelError):
    """The file is no complete, valid ONNX model."""


class UnsupportedModelError(ModelError):
    """The file is valid ONNX, of a kind that `prepare` does not do."""


class SidecarError(ModelError):
    """The YAML beside a model says what no model can be, or what this one is not."""


class AccuracyError(WeightsError):
    """The quantised model finds too little of what the original finds."""


class UnwantedError(WeightsError):
    """The source has the very bytes that are not wanted."""


class PredictorError(WeightsError):
    """The predictor can not be told of the weights."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class AwayError(PredictorError):
    """The predictor is not there, or not taking loads: it may be later."""


class BrokenLoadError(PredictorError):
    """The predictor went away while it loaded the weights."""


class RefusedError(PredictorError):
    """The predictor does not serve the weights it was given."""


class FollowError(WeightsError):
    """The object in Kubernetes can not be followed."""
