"""What can go wrong with a model: its folder, its inputs, or its own answer."""


class ModelError(Exception):
    """Base of every error this package raises; carries the model's id where it is known."""

    def __init__(self, message: str, *, model_id: str | None = None) -> None:
        super().__init__(message)
        self.model_id = model_id


class ManifestError(ModelError):
    """The manifest cannot be read or says something impossible."""


class ArtifactError(ModelError):
    """A file of the model folder is missing, altered or not what the manifest declares."""


class GraphOutputError(ModelError):
    """The graph answered with something that must not reach a clinician (not a number, out of range, unexplained)."""


class ReferenceFileError(ModelError):
    """`reference.json` cannot be read, contradicts itself, or doesn't fit the model it lies beside."""
