"""Every error that expertree raises on purpose, under one root.

Each takes one message, so that it survives pickling between processes. `ValueError` stays for a
function called with wrong arguments; these are for the world outside: files, configs, clusters.
"""


class ExpertreeError(Exception):
    """Root of all errors of this package. Its message is meant for the user, in one sentence."""


class ConfigError(ExpertreeError):
    """The configuration has an unknown key, or a value that cannot work."""


class PhotoError(ExpertreeError):
    """The user's photographs cannot be used: none found, too few, too small."""


class DatasetError(ExpertreeError):
    """A data set is not laid out as its reader expects, or not all of it is there."""


class ArtefactError(ExpertreeError):
    """A stored result is damaged, or does not fit what is asked of it."""


class ResourceError(ExpertreeError):
    """The cluster does not have what the job asks for."""


class StorageError(ExpertreeError):
    """A storage location cannot be read or written."""


class TrainingError(ExpertreeError):
    """A network could not be trained."""


class GroupingError(ExpertreeError, ValueError):
    """Embeddings do not fall into the groups that were asked for."""
