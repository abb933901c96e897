"""Every error that expertree raises on purpose, under one root.

Each is made of its arguments alone, so that it survives pickling between processes. `ValueError`
stays for a function called with wrong arguments; these are for the world outside: files, configs,
clusters, callers.
"""


class ExpertreeError(Exception):
    """Root of all errors of this package. Its message is meant for the user, in one sentence."""


class ConfigError(ExpertreeError):
    """The configuration has an unknown key, or a value that cannot work."""


class PhotoError(ExpertreeError):
    """The user's photographs cannot be used: none found, too few, too small."""


class UnsupportedFormatError(PhotoError):
    """A file is of a kind that is not read, by its first bytes; the message can follow its name."""


class TooLargeError(PhotoError):
    """An image claims more pixels than are allowed; the message can follow the file's name."""


class DamagedImageError(PhotoError):
    """A file cannot be decoded whole; the message can follow its name."""


class DatasetError(ExpertreeError):
    """A data set is not laid out as its reader expects, or not all of it is there."""


class ArtefactError(ExpertreeError):
    """A stored result is damaged, or does not fit what is asked of it."""


class ResourceError(ExpertreeError):
    """The cluster does not have what the job asks for."""


class StorageError(ExpertreeError):
    """A storage location cannot be read or written."""


class TransientStorageError(StorageError):
    """A storage location did not answer this time; the same may go well a little later."""


class TrainingError(ExpertreeError):
    """A network could not be trained."""


class PausedError(ExpertreeError):
    """A training was told to go on elsewhere; it has left a checkpoint."""


class GroupingError(ExpertreeError, ValueError):
    """Embeddings do not fall into the groups that were asked for."""


class OptionError(ExpertreeError, ValueError):
    """A caller's option does not exist, or cannot be had together with another one."""


class OverloadError(ExpertreeError):
    """Too many wait already.

    Attributes:
        retry_after_s: When it is worth another try.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class UnavailableError(OverloadError):
    """What should answer is not there: still loading, or lost on the way."""


class MemoryShortageError(OverloadError):
    """Memory does not suffice for the image, tiled as it was."""


class DeadlineError(ExpertreeError):
    """The answer would come too late."""
