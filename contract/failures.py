"""Everything that can go wrong, by name.

A failure is a class: its docstring is the sentence the reader gets, and code, status, hint and retriable stand on it.
The service answers it as `application/problem+json` (RFC 9457); a job that ends with one bears the same object.

    Failure
    ├── RequestRefused       what a request cannot have: answered at once, never a job's end
    └── JobFailure           how a job can end badly: stands in `job.error`
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

from pydantic import Field

from contract.value import Value


class Fault(Value):
    """One thing that is wrong in what was sent."""

    #: JSON Pointer (RFC 6901) into the body that was sent.
    pointer: str
    code: str
    detail: str


class Problem(Value):
    """A failure as the client reads it (RFC 9457), in an answer or in `job.error`."""

    #: A URL under which the code is explained.
    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    #: Stable: programs may compare it.
    code: str
    errors: tuple[Fault, ...] = ()
    #: What the reader can do about it.
    hint: str | None = None
    #: Whether the same request may succeed later, unchanged.
    retriable: bool = False
    request_id: str | None = None
    #: The step that failed, counted from 0.
    step_index: int | None = None
    #: The module that is to blame, where one is.
    layer: str | None = None
    #: For a wrong state (409): the state, and the states in which the call is allowed.
    state: str | None = None
    allowed: tuple[str, ...] | None = None


class Failure(Exception):
    """Something went wrong."""

    code: ClassVar[str]
    status: ClassVar[int] = 422
    hint: ClassVar[str | None] = None
    retriable: ClassVar[bool] = False
    #: Seconds after which a client may try again, where nobody knows better.
    patience: ClassVar[int | None] = None

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Fault] = (),
        pointer: str | None = None,
        layer: str | None = None,
        step_index: int | None = None,
        retry_after: int | None = None,
        state: str | None = None,
        allowed: Sequence[str] | None = None,
    ) -> None:
        self.detail = detail or self.title()
        super().__init__(self.detail)
        one = (Fault(pointer=pointer, code=self.code, detail=self.detail),) if pointer else ()
        self.errors = tuple(errors) or one
        self.layer = layer
        self.step_index = step_index
        #: Seconds after which the client may try again, sent as `Retry-After`.
        self.retry_after = self.patience if retry_after is None else retry_after
        self.state = state
        self.allowed = tuple(allowed) if allowed is not None else None

    @classmethod
    def title(cls) -> str:
        """The sentence of this kind of failure."""
        return (cls.__doc__ or cls.code).strip().splitlines()[0]

    def at_step(self, index: int) -> Self:
        """The same failure, blamed on a step; a blame already laid stays."""
        if self.step_index is None:
            self.step_index = index
        return self

    def problem(self, *, instance: str | None = None, request_id: str | None = None) -> Problem:
        """What the client reads."""
        return Problem(
            type=f"/v1/errors/{self.code}",
            title=self.title(),
            status=self.status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            errors=self.errors,
            hint=self.hint,
            retriable=self.retriable,
            request_id=request_id,
            step_index=self.step_index,
            layer=self.layer,
            state=self.state,
            allowed=self.allowed,
        )


class RequestRefused(Failure):
    """The request was refused."""

    code = "refused"
    status = 400


class JobFailure(Failure):
    """The job failed."""

    code = "job_failed"


# --- Requests: the HTTP side -------------------------------------------------------------------------------------


class MalformedRequest(RequestRefused):
    """The request could not be read."""

    code = "malformed_request"
    status = 400


class Unauthorized(RequestRefused):
    """This service wants an API key, and the request brought none that it knows."""

    code = "unauthorized"
    status = 401
    hint = "Send the key as `Authorization: Bearer KEY`."


class NotFound(RequestRefused):
    """There is nothing here under this id."""

    code = "not_found"
    status = 404


class MethodNotAllowed(RequestRefused):
    """This resource does not take this HTTP method."""

    code = "method_not_allowed"
    status = 405


class NotAcceptable(RequestRefused):
    """This resource cannot be had in the format that was asked for."""

    code = "not_acceptable"
    status = 406


class InvalidState(RequestRefused):
    """The resource is in a state in which this cannot be done."""

    code = "invalid_state"
    status = 409


class InUse(RequestRefused):
    """An open job still needs this."""

    code = "in_use"
    status = 409
    hint = "Cancel the job or wait until it ends."


class IdempotencyKeyInFlight(RequestRefused):
    """A request with this Idempotency-Key is still being answered."""

    code = "idempotency_key_in_flight"
    status = 409
    retriable = True


class ContentGone(RequestRefused):
    """The bytes of this are no longer there, or no longer those that were stored."""

    code = "content_gone"
    status = 410
    hint = "Upload the file again, or run the job again."


class LengthRequired(RequestRefused):
    """The request must say how long its body is."""

    code = "length_required"
    status = 411


class PreconditionFailed(RequestRefused):
    """The resource has changed since the version that the request names."""

    code = "precondition_failed"
    status = 412


class BodyTooLarge(RequestRefused):
    """The body is larger than this service takes."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(RequestRefused):
    """This resource does not take a body of this media type."""

    code = "unsupported_media_type"
    status = 415


class UnsupportedFormat(RequestRefused):
    """The bytes are not of a format that this service takes."""

    code = "unsupported_format"
    status = 415
    hint = "Send weights as safetensors or as a zip-format state_dict (.pt), data as a zip of class folders or as npz."


class PickleNotAllowed(RequestRefused):
    """The file is a pickle, which could run code when it is read."""

    code = "pickle_not_allowed"
    status = 415
    hint = (
        "Save weights with `safetensors.torch.save_file(model.state_dict(), path)` or "
        "`torch.save(model.state_dict(), path)`, arrays with `numpy.savez(path, x=x, y=y)`."
    )


class ExecutableModelNotAllowed(RequestRefused):
    """The file is a program (TorchScript, torch.export or torch.package), and nothing uploaded is executed."""

    code = "executable_model_not_allowed"
    status = 415
    hint = "Upload the state_dict and name the architecture."


class RangeNotSatisfiable(RequestRefused):
    """The range that was asked for lies outside of the file."""

    code = "range_not_satisfiable"
    status = 416


class InvalidRequest(RequestRefused):
    """The request was understood and is wrong."""

    code = "invalid_request"
    status = 422


class DigestMismatch(RequestRefused):
    """The bytes that arrived are not those that the digest names."""

    code = "digest_mismatch"
    status = 422
    hint = "Send the file again."
    retriable = True


class IdempotencyKeyReused(RequestRefused):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"
    status = 422
    hint = "Make a new key for every new request."


class InternalError(RequestRefused):
    """The service made a mistake; the request id leads to it in the log."""

    code = "internal_error"
    status = 500
    retriable = True


class Unavailable(RequestRefused):
    """The service cannot answer this now."""

    code = "unavailable"
    status = 503
    retriable = True


class RequestTimeout(RequestRefused):
    """The body came too slowly."""

    code = "request_timeout"
    status = 408
    retriable = True


class StorageFull(JobFailure, RequestRefused):
    """There is no room left to keep this."""

    code = "storage_full"
    status = 507
    hint = "Delete jobs, models or datasets that are no longer needed, or give the service a larger disk."
    retriable = True
    patience = 60


# --- Specs: what the API knows without torch -----------------------------------------------------------------------


class InvalidSpec(InvalidRequest):
    """The job spec does not hold together."""

    code = "invalid_spec"


class UnknownMethod(InvalidRequest):
    """There is no such method."""

    code = "unknown_method"
    hint = "GET /v1/methods lists them."


class InvalidParams(InvalidRequest):
    """A parameter is unknown, missing or out of its bounds."""

    code = "invalid_params"


class UnknownArchitecture(InvalidRequest):
    """There is no such architecture."""

    code = "unknown_architecture"
    hint = "GET /v1/architectures?query= finds them by name."


class MissingData(InvalidRequest):
    """A step or an output needs data that the job does not name."""

    code = "missing_data"


class NotReady(InvalidRequest):
    """The resource has no content yet."""

    code = "not_ready"
    hint = "PUT the bytes to its `links.content` first."


class WrongOrder(InvalidRequest):
    """The steps make no sense in this order."""

    code = "wrong_order"


class AlreadyQuantized(InvalidRequest, JobFailure):
    """A layer gets its weight codes once, and an earlier step has given them."""

    code = "already_quantized"
    hint = "Leave the layer out with `exclude`, or drop one of the two steps."


class FormatUnavailable(InvalidRequest):
    """No worker can write this format."""

    code = "format_unavailable"
    hint = "GET /v1/capabilities lists the formats."


class DeviceUnavailable(InvalidRequest):
    """No worker has this device."""

    code = "device_unavailable"
    hint = "GET /v1/capabilities lists the devices; `auto` takes what is there."


# --- Jobs: what the model and the data say ---------------------------------------------------------------------------


class InvalidModel(JobFailure):
    """The model file cannot be read."""

    code = "invalid_model"


class WeightsMismatch(JobFailure):
    """The weights do not fit the architecture."""

    code = "weights_mismatch"
    hint = "Check the architecture's options, above all num_classes."


class NonFiniteWeights(JobFailure):
    """The weights hold NaN or infinity."""

    code = "non_finite_weights"


class InvalidArchitecture(JobFailure):
    """The architecture cannot be built with these options."""

    code = "invalid_architecture"


class InvalidDataset(JobFailure):
    """The dataset cannot be used."""

    code = "invalid_dataset"


class UnsafeArchive(JobFailure):
    """The archive holds names, links or compression that no dataset needs."""

    code = "unsafe_archive"


class ArchiveBomb(JobFailure):
    """The archive unpacks to far more than it should."""

    code = "archive_bomb"


class DatasetTooLarge(JobFailure):
    """The dataset is larger than this worker takes."""

    code = "dataset_too_large"


class InvalidImage(JobFailure):
    """A file that should be an image is none that can be read."""

    code = "invalid_image"


class SingleClass(JobFailure):
    """The dataset has one class only, so there is nothing to tell apart."""

    code = "single_class"


class ClassesMismatch(JobFailure):
    """The classes that are told here and there do not agree: by the model, the data or the job."""

    code = "classes_mismatch"


class NoLayerMatches(JobFailure):
    """No layer has a name that the patterns match."""

    code = "no_layer_matches"
    hint = "The patterns are globs over module names, as in `layer1.*.conv2`."


class UnfitModel(JobFailure):
    """The method cannot be applied to this model."""

    code = "unfit_model"


class PruningFailed(JobFailure):
    """The channels of this architecture cannot be pruned."""

    code = "pruning_failed"


class NothingToQuantize(JobFailure):
    """The model has no layer that this method quantizes."""

    code = "nothing_to_quantize"


class LimitUnmet(JobFailure):
    """The limit cannot be held, whatever is left uncompressed."""

    code = "limit_unmet"
    hint = "Raise `max_drop`, or train through the codes."


class NothingFits(JobFailure):
    """No architecture costs as little as the budget says."""

    code = "nothing_fits"
    hint = "Raise the budget, or name an `architecture`. GET /v1/architectures?sort=parameters lists the smallest."


class TrainingDiverged(JobFailure):
    """The loss became NaN or infinite."""

    code = "training_diverged"
    hint = "Lower the learning rate."


class ExportFailed(JobFailure):
    """The model cannot be written in this format."""

    code = "export_failed"


class ArtifactMismatch(JobFailure):
    """A delivered file does not compute what the compressed model computes, so it is not delivered."""

    code = "artifact_mismatch"


class ConstraintUnmet(JobFailure):
    """A constraint is not met, and the job says that it must be."""

    code = "constraint_unmet"
    hint = "`on_unmet: keep_best` delivers the best state there is; the files of this job can be read as partial."


# --- Jobs: what the world does to them ------------------------------------------------------------------------------


class QueueDeadlineExceeded(JobFailure):
    """The job waited longer than `limits.max_queue_seconds` and was not started."""

    code = "queue_deadline_exceeded"
    retriable = True


class DeadlineExceeded(JobFailure):
    """The job ran longer than `limits.max_run_seconds` and was stopped."""

    code = "deadline_exceeded"
    hint = "Raise limits.max_run_seconds, or ask for fewer epochs."


class MemoryLimit(JobFailure):
    """The job needed more memory than `limits.max_memory_bytes` and was stopped."""

    code = "memory_limit"
    hint = "Lower the batch size, or raise limits.max_memory_bytes."


class WorkerLost(JobFailure):
    """The worker was lost three times while it ran this job."""

    code = "worker_lost"
    retriable = True


class JobCrashed(JobFailure):
    """The process that ran the job died."""

    code = "job_crashed"
    retriable = True


class SpecOutdated(JobFailure, RequestRefused):
    """The job was accepted by an earlier version of the service, and its spec breaks the rules of this one."""

    code = "spec_outdated"
    status = 409
    hint = "Submit the job anew, with a spec that this version accepts."


class InputCorrupt(JobFailure):
    """The stored bytes of an input are no longer those that were uploaded."""

    code = "input_corrupt"
    hint = "Upload the file again."


class WorkerError(JobFailure):
    """The worker made a mistake; the job's log says where."""

    code = "worker_error"
    retriable = True


def every_failure() -> Iterator[type[Failure]]:
    """Every kind of failure that a client can meet, in the order of this file."""
    seen: dict[type[Failure], None] = {}

    def walk(kind: type[Failure]) -> None:
        for sub in kind.__subclasses__():
            seen.setdefault(sub)
            walk(sub)

    walk(Failure)
    abstract = {RequestRefused, JobFailure}
    # A kind without a code of its own is, to a client, the one that it specializes.
    return iter([kind for kind in seen if kind not in abstract and "code" in vars(kind)])


def failure_named(code: str) -> type[Failure] | None:
    """The kind of failure with this code."""
    return next((kind for kind in every_failure() if kind.code == code), None)


def revive(problem: Problem) -> Failure:
    """The failure that a problem tells of, as an exception again."""
    kind = failure_named(problem.code) or JobFailure
    return kind(
        problem.detail,
        errors=problem.errors,
        layer=problem.layer,
        step_index=problem.step_index,
        state=problem.state,
        allowed=problem.allowed,
    )


class ErrorEntry(Value):
    """One line of the catalogue of errors."""

    code: str
    status: int
    title: str
    hint: str | None = None
    retriable: bool = False

    @classmethod
    def of(cls, kind: type[Failure]) -> "ErrorEntry":
        """The entry of one kind of failure."""
        return cls(
            code=kind.code,
            status=kind.status,
            title=kind.title(),
            hint=kind.hint,
            retriable=kind.retriable,
        )


class ErrorCatalogue(Value):
    """Every failure code there is."""

    data: tuple[ErrorEntry, ...] = Field(default=())
