"""The errors that expertree raises on purpose, all under one root class.

Each is made of its arguments alone, so that it survives pickling between processes. These errors
are about files, configurations, clusters and callers; a function that is called with wrong
arguments raises `ValueError`.
"""


class ExpertreeError(Exception):
    """Root of all errors of this package. Its message is meant for the user, in one sentence."""


class ConfigError(ExpertreeError):
    """The configuration has an unknown key, or a value that cannot work."""


class PhotoError(ExpertreeError):
    """The user's photographs cannot be used: none found, too few, too small."""


class UnsupportedFormatError(PhotoError):
    """A file's format, pixels or frames are not supported; the message can follow its name."""


class TooLargeError(PhotoError):
    """An image claims more pixels than are allowed; the message can follow the file's name."""


class DamagedImageError(PhotoError):
    """A file cannot be decoded whole; the message can follow its name."""


class DatasetError(ExpertreeError):
    """A data set is not laid out as its reader expects, or not all of it is there."""


class ArtefactError(ExpertreeError):
    """A stored result is damaged, or does not fit what is asked of it."""


class ExportError(ExpertreeError):
    """An expert cannot be written in a form, or does not do the same in it."""


class ResourceError(ExpertreeError):
    """The cluster does not have what the job asks for."""


class StorageError(ExpertreeError):
    """A storage location cannot be read or written."""


class TransientStorageError(StorageError):
    """A storage location failed for a passing reason; another try may succeed a little later."""


class TrainingError(ExpertreeError):
    """A network could not be trained."""


class HeldError(ExpertreeError):
    """Another job is making what was to be made; it will be there, or free, a little later."""


class TakenOverError(ExpertreeError):
    """A later start of the same job has taken over, so that this one must end."""


class PausedError(ExpertreeError):
    """A training has to move to another worker; it has left a checkpoint."""


class GroupingError(ExpertreeError, ValueError):
    """Embeddings cannot be clustered into the groups that were asked for."""


class OptionError(ExpertreeError, ValueError):
    """A caller's option does not exist, or cannot be combined with another one."""


class OverloadError(ExpertreeError):
    """Too many requests or jobs are waiting already.

    Attributes:
        retry_after_s: Seconds to wait before another try.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class UnavailableError(OverloadError):
    """The part that should answer is still loading, or was lost."""


class MemoryShortageError(OverloadError):
    """There is too little memory for the image at the tile size that was used."""


class DeadlineError(ExpertreeError):
    """The answer cannot come before the caller's deadline."""
