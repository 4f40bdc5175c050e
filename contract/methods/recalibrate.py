"""Measuring the statistics of batch normalization anew."""

from typing import ClassVar, Literal

from pydantic import Field

from contract.methods.params import Params, Role, Stage


class Recalibrate(Params):
    """Measures the statistics of batch normalization anew on calibration data, without labels."""

    method: Literal["recalibrate"] = "recalibrate"
    stage: ClassVar[Stage] = Stage.WEIGHTS
    needs: ClassVar[frozenset[Role]] = frozenset({Role.CALIBRATION})
    keeps_codes: ClassVar[bool] = True

    samples: int = Field(default=1024, ge=2, le=1_000_000, description="How many calibration images are used at most.")
