"""What a job delivers."""

from fastapi import APIRouter, Request, Response

from contract.artifact import ArtifactList
from contract.failures import ContentGone, NotFound, PreconditionFailed, RangeNotSatisfiable
from contract.report import Report
from service.downloads import download
from service.house import TENANT, InHouse
from service.routes.responses import file_response, problems
from service.views import artifact_view
from storage.values import Blob

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])


@router.get("/artifacts", responses=problems(NotFound))
def list_artifacts(job_id: str, house: InHouse) -> ArtifactList:
    """Every file that the job has delivered."""
    job = house.jobs.get(TENANT, job_id)
    return ArtifactList(data=tuple(artifact_view(one, job_id) for one in job.artifacts))


@router.get(
    "/artifacts/{filename}",
    response_class=Response,
    responses=problems(
        NotFound, ContentGone, PreconditionFailed, RangeNotSatisfiable,
        success=file_response("The file.", "application/octet-stream"),
    ),
)  # fmt: skip
def get_artifact(job_id: str, filename: str, request: Request, house: InHouse) -> Response:
    """One file, as a whole or in part."""
    found = house.jobs.artifact(TENANT, job_id, filename=filename)
    blob = Blob(found.sha256, found.size_bytes)
    return download(request, house.blobs, blob, filename=found.filename, media_type=found.media_type)


@router.get("/report", responses=problems(NotFound))
def get_report(job_id: str, house: InHouse) -> Report:
    """The job's figures; there are none before it ends."""
    report = house.jobs.get(TENANT, job_id).report
    if report is None:
        raise NotFound("The job has no report.")
    return report


@router.get(
    "/report.html",
    response_class=Response,
    responses=problems(
        NotFound, ContentGone, PreconditionFailed, RangeNotSatisfiable, success=file_response("The page.", "text/html")
    ),
)
def get_report_page(job_id: str, request: Request, house: InHouse) -> Response:
    """The report as a page that needs nothing else."""
    found = house.jobs.artifact(TENANT, job_id, filename="report.html")
    blob = Blob(found.sha256, found.size_bytes)
    return download(
        request, house.blobs, blob, filename=found.filename, media_type="text/html; charset=utf-8", inline=True
    )
