"""report.json: everything that a job found out, in one file that needs nothing beside it."""

from pydantic import SerializeAsAny

from contract.artifact import ArtifactFile
from contract.job import JobResult
from contract.model import Architecture
from contract.report import StepReport
from contract.spec import JobSpec
from contract.value import Value


class ReportDocument(Value):
    """A job told from its spec to its files."""

    #: The network that the job was given.
    architecture: Architecture
    #: What was asked for, with every default resolved.
    spec: SerializeAsAny[JobSpec]
    result: JobResult
    #: In the order of the spec's steps; of those alone that the delivered state has been through.
    steps: tuple[StepReport, ...]
    #: The delivered files, but for the reports themselves.
    files: tuple[ArtifactFile, ...]
