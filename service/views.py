"""Resources as clients read them: what storage has, and where one can go from there."""

from contract.artifact import Artifact
from contract.dataset import Dataset
from contract.job import Job
from contract.model import Model


def model_view(model: Model) -> Model:
    """A model with its links."""
    at = f"/v1/models/{model.id}"
    return model.model_copy(update={"links": {"self": at, "content": f"{at}/content"}})


def dataset_view(dataset: Dataset) -> Dataset:
    """A dataset with its links."""
    at = f"/v1/datasets/{dataset.id}"
    return dataset.model_copy(update={"links": {"self": at, "content": f"{at}/content"}})


def artifact_view(artifact: Artifact, job_id: str) -> Artifact:
    """An artifact with its link."""
    return artifact.model_copy(update={"links": {"content": f"/v1/jobs/{job_id}/artifacts/{artifact.filename}"}})


def job_view(job: Job) -> Job:
    """A job with its links, and those of its artifacts."""
    at = f"/v1/jobs/{job.id}"
    parts = ("events", "logs", "artifacts", "cancel", "retry")
    links = {"self": at} | {part: f"{at}/{part}" for part in parts}
    if job.report is not None:
        links |= {"report": f"{at}/report", "report_html": f"{at}/report.html"}
    return job.model_copy(
        update={"links": links, "artifacts": tuple(artifact_view(one, job.id) for one in job.artifacts)}
    )
