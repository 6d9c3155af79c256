"""Every error that LeanPACS raises on purpose.

Facts are attributes; the text is for people. ``transient`` tells a caller whether trying again can help.

::

    LeanPACSError
      ConfigError                    .key .value
        AlreadyServed                .process
      DicomError                     the input is not usable DICOM
        NotDicom
        MissingAttribute             .keyword
        Truncated                    .offset
        EncapsulationError
        InflateError
        InvalidWorklistItem          .name
      CodecError
        UnsupportedTransferSyntax    .uid
        UnsupportedFrame             .reason
        DecodeError                  .codec
        EncodeError                  .codec
        VerificationError            .expected .actual   never swallowed, never retried
      StorageError
        BlobNotFound                 .digest
        BlobCorrupt                  .digest
        PackError
        DictionaryMissing            .dictionary_id
        NameTaken                    .name
        StoreFull                    transient
        StoreUnavailable             transient
        BeingRestored                .digest .tier .seconds   transient
      CatalogError
        InstanceNotFound             .uid
        FrameNotFound                .number
        InvalidQuery                 .keyword
        CatalogUnavailable           transient
          CatalogConflict            another writer was faster
      WorkerError                    .task          a worker process was lost; only the task it ran fails
        WorkerCrashed
        WorkerTimeout                .limit_seconds
        WorkerOutOfMemory            .limit_bytes
      RefusedByPolicy                .policy
      ReportError                    an analysis, workload or policy for a report is not usable
"""

from __future__ import annotations


class LeanPACSError(Exception):
    """Root of all errors raised on purpose.

    All of them can be pickled, whatever their constructors take: worker processes hand them to their parents.
    """

    transient = False

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[LeanPACSError], arguments: tuple[object, ...], facts: dict[str, object]) -> LeanPACSError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(facts)
    return error


class ConfigError(LeanPACSError):
    """A setting is unknown, missing or out of range."""

    def __init__(self, key: str, value: object, message: str) -> None:
        super().__init__(f"{key} = {value!r}: {message}")
        self.key = key
        self.value = value


class AlreadyServed(ConfigError):
    """Another server runs on this data folder. Stop it, or give each server a folder of its own.

    ``process`` is its process ID, as it wrote it; it may be that of another container, or empty.
    """

    def __init__(self, data: object, process: str) -> None:
        who = f"a server (process {process})" if process else "a server"
        super().__init__(
            "storage.data",
            str(data),
            f"{who} runs on this folder already; stop that one first, or give this one a folder of its own (--data)",
        )
        self.process = process


class DicomError(LeanPACSError):
    """The input is not usable DICOM."""


class NotDicom(DicomError):
    """Nothing in the input reads as a DICOM data set."""


class MissingAttribute(DicomError):
    """An attribute that is needed is absent or has no value."""

    def __init__(self, keyword: str) -> None:
        super().__init__(f"{keyword} is missing")
        self.keyword = keyword


class Truncated(DicomError):
    """The data set ends inside an element."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.offset = offset


class EncapsulationError(DicomError):
    """Encapsulated Pixel Data whose items cannot be told apart or assigned to frames."""


class InflateError(DicomError):
    """A deflated data set that does not inflate, or that inflates beyond the limit."""


class InvalidWorklistItem(DicomError):
    """A file of the modality worklist does not read, or lacks what an order needs."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"worklist file {name} {message}")
        self.name = name


class CodecError(LeanPACSError):
    """Samples or code streams that cannot be converted."""


class UnsupportedTransferSyntax(CodecError):
    """No codec here reads or writes this transfer syntax."""

    def __init__(self, uid: str, message: str = "") -> None:
        super().__init__(message or f"transfer syntax {uid} cannot be converted")
        self.uid = uid


class UnsupportedFrame(CodecError):
    """A codec cannot hold this frame exactly; raised before or instead of a wrong encoding."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DecodeError(CodecError):
    """A code stream does not decode to the frame it should hold."""

    def __init__(self, codec: str, message: str) -> None:
        super().__init__(f"{codec}: {message}")
        self.codec = codec


class EncodeError(CodecError):
    """An encoder failed on a frame that it had not refused."""

    def __init__(self, codec: str, message: str) -> None:
        super().__init__(f"{codec}: {message}")
        self.codec = codec


class VerificationError(CodecError):
    """What was decoded back is not what was received. Never swallowed, never retried."""

    def __init__(self, message: str, expected: str, actual: str) -> None:
        super().__init__(f"{message}: expected {expected}, found {actual}")
        self.expected = expected
        self.actual = actual


class StorageError(LeanPACSError):
    """A blob store, pack or dictionary does not give what was asked for."""


class BlobNotFound(StorageError):
    """No blob of this digest in the store."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} is not in the store")
        self.digest = digest


class BlobCorrupt(StorageError):
    """The bytes of a blob are not those its digest names."""

    def __init__(self, digest: str, message: str) -> None:
        super().__init__(f"blob {digest} is damaged: {message}")
        self.digest = digest


class PackError(StorageError):
    """A pack that is not a well-formed ZIP of the documented shape."""


class DictionaryMissing(StorageError):
    """A Zstandard frame names a dictionary that is not at hand."""

    def __init__(self, dictionary_id: int) -> None:
        super().__init__(f"Zstandard dictionary {dictionary_id} is not at hand")
        self.dictionary_id = dictionary_id


class NameTaken(StorageError):
    """Other bytes are kept under this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is kept already, with other content")
        self.name = name


class StoreFull(StorageError):
    """The store has no room left; nothing was changed."""

    transient = True


class StoreUnavailable(StorageError):
    """The store does not answer."""

    transient = True


class BeingRestored(StorageError):
    """The blob is in an archive class, and cannot be read yet.

    ``seconds`` is what bringing it back will still take, as far as is known; None when nobody has asked for it.
    """

    transient = True

    def __init__(self, digest: str, tier: str, seconds: float | None) -> None:
        wait = "has not been asked for" if seconds is None else f"is being brought back; ask again in {seconds:.0f} s"
        super().__init__(f"blob {digest} is in the archive class of tier {tier} and {wait}")
        self.digest = digest
        self.tier = tier
        self.seconds = seconds


class CatalogError(LeanPACSError):
    """The catalog does not hold, or cannot do, what was asked for."""


class InstanceNotFound(CatalogError):
    """No instance, series or study of this UID."""

    def __init__(self, uid: str) -> None:
        super().__init__(f"{uid} is not in this archive")
        self.uid = uid


class FrameNotFound(CatalogError):
    """The instance has no frame of this number."""

    def __init__(self, number: int, number_of_frames: int) -> None:
        super().__init__(f"frame {number} does not exist; the instance has {number_of_frames}")
        self.number = number
        self.number_of_frames = number_of_frames


class InvalidQuery(CatalogError):
    """A matching key or its value is not understood."""

    def __init__(self, keyword: str, message: str) -> None:
        super().__init__(f"{keyword}: {message}")
        self.keyword = keyword


class CatalogUnavailable(CatalogError):
    """The catalog's database does not answer or is locked for too long."""

    transient = True


class CatalogConflict(CatalogUnavailable):
    """Another writer was faster; nothing was changed, and the same again will see what the other one did."""


class WorkerError(LeanPACSError):
    """A worker process was lost with the task that it ran; other tasks are not touched by that."""

    def __init__(self, task: str, message: str) -> None:
        super().__init__(f"{task}: {message}")
        self.task = task


class WorkerCrashed(WorkerError):
    """The worker process ended before the task did. Keep the input, it is likely to do that again, and report it.

    ``is_stopped`` says that it was told to end from outside, as machines are that are taken away.
    """

    def __init__(self, task: str, how: str) -> None:
        super().__init__(task, f"the worker process crashed ({how}); keep the input as it is and report it")
        self.is_stopped = "SIGTERM" in how


class WorkerTimeout(WorkerError):
    """The task took longer than it may. Allow more time, or keep the input as it is."""

    def __init__(self, task: str, limit_seconds: float) -> None:
        super().__init__(task, f"not done within {limit_seconds:g} s; allow more time or keep the input as it is")
        self.limit_seconds = limit_seconds


class WorkerOutOfMemory(WorkerError):
    """The task needs more memory than it may have. Allow more, or keep the input as it is."""

    def __init__(self, task: str, limit_bytes: int) -> None:
        super().__init__(
            task, f"needs more than {limit_bytes / 1e6:.0f} MB of memory; allow more or keep the input as it is"
        )
        self.limit_bytes = limit_bytes


class RefusedByPolicy(LeanPACSError):
    """A rule of the archive forbids the operation."""

    def __init__(self, policy: str, message: str) -> None:
        super().__init__(message)
        self.policy = policy


class ReportError(LeanPACSError):
    """A file that a report is made from cannot be read, or holds something else."""
