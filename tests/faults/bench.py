"""What the tests of the worker stand on: a database, blobs, and jobs whose runner does as it is told."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from contract.job import Job
from contract.model import Architecture, Model, ModelCreation, Preprocessing
from contract.settings import Settings
from contract.spec import JobSpec
from contract.worker import WorkerCard
from storage.blobs import Blobs, open_blobs
from storage.catalogue import Models
from storage.checkpoints import Checkpoints
from storage.claims import Claims
from storage.database import Database, migrate, open_database
from storage.jobs import Jobs
from storage.logs import Logs
from storage.terms import Terms
from storage.upkeep import Upkeep
from storage.values import Claim, NewJob
from worker.card import write_card
from worker.endings import Archive
from worker.process import Recipe
from worker.sandbox import Bounds
from worker.spare import Spare
from worker.supervise import Supervisor

SCRIPTED = (sys.executable, "-I", str(Path(__file__).with_name("scripted_runner.py")))
TENANT = "default"
WEIGHTS = b"the weights of a network"


@dataclass
class Bench:
    """One database with its blobs, and a supervisor that a test drives by hand."""

    settings: Settings
    runner: tuple[str, ...] = SCRIPTED
    stop: list[bool] = field(default_factory=lambda: [False])

    def __post_init__(self) -> None:
        migrate(self.settings.database)
        self.database: Database = open_database(self.settings.database)
        terms = Terms.of(self.settings)
        self.jobs = Jobs(self.database, terms)
        self.claims = Claims(self.database, terms)
        self.upkeep = Upkeep(self.database, terms)
        self.logs = Logs(self.database)
        self.models = Models(self.database)
        self.blobs: Blobs = open_blobs(
            self.settings.blobs, self.database, spool=self.settings.scratch / "spool", min_free_bytes=0
        )
        self.card: WorkerCard = write_card(self.settings)
        recipe = Recipe(self.runner, self.settings.scratch / "jobs", threads=1, bounds=Bounds(file_bytes=1024**3))
        self.spare = Spare(recipe, warm=self.settings.warm_spare)
        archive = Archive(self.claims, Checkpoints(self.database), self.logs, self.blobs)
        self.supervisor = Supervisor(archive, self.spare, self.card, self.settings, stopping=lambda: self.stop[0])

    def close(self) -> None:
        """End what is left."""
        self.spare.close()
        self.database.close()

    def model(self, content: bytes = WEIGHTS) -> Model:
        """A model that is ready."""
        creation = ModelCreation(architecture=Architecture(name="resnet18"))
        preprocessing = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
        model = self.models.add(TENANT, creation, preprocessing=preprocessing)
        with self.blobs.writer(TENANT) as writer:
            writer.write(content)
            blob = writer.commit()
        return self.models.set_content(TENANT, model.id, blob)

    def submit(self, act: str, *, argument: str = "", model: Model | None = None, **limits: int) -> Job:
        """A job whose runner does this."""
        spec = JobSpec.model_validate(
            {
                "model": (model or self.model()).id,
                "steps": [{"method": "prune_weights", "amount": 0.5}],
                "limits": limits,
                "metadata": {"act": act, "argument": argument},
            }
        )
        return self.jobs.add(NewJob(tenant=TENANT, spec=spec))

    def claim(self) -> Claim:
        """The next job, which must be there."""
        claim = self.claims.claim(self.card)
        assert claim is not None
        return claim

    def job(self, job: Job) -> Job:
        """The job as it stands."""
        return self.jobs.get(TENANT, job.id)

    def run(self, act: str, *, argument: str = "", **limits: int) -> Job:
        """Submit a job, carry it out once, and see how it stands."""
        job = self.submit(act, argument=argument, **limits)
        self.supervisor.carry_out(self.claim())
        return self.job(job)

    def log(self, job: Job) -> str:
        """What the job's log says."""
        return self.logs.read(TENANT, job.id).content.decode(errors="replace")

    def artifact(self, job: Job, filename: str = "model.json") -> bytes:
        """The bytes of a delivered file."""
        artifact = self.jobs.artifact(TENANT, job.id, filename=filename)
        return b"".join(self.blobs.read(TENANT, artifact.sha256))


def relatives(bench: Bench) -> list[psutil.Process]:
    """The bench's runners and all that they have started, which share the folder of their job."""
    return [process for process in psutil.Process().children(recursive=True) if _works_in(process, bench)]


def _works_in(process: psutil.Process, bench: Bench) -> bool:
    try:
        return Path(process.environ().get("TMPDIR", "/")).is_relative_to(bench.settings.scratch)
    except psutil.NoSuchProcess:
        return False
