"""Where a machine-learning model's data are, and when it is trained anew."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from upkeep.core.fields import ConnId, Name, Path
from upkeep.core.model import Model


class DataSource(Model):
    """Rows of a stretch of time: a query on a PostgreSQL target, or files."""

    target: Name | None = Field(None, description="postgres target of this system")
    sql: str | None = Field(
        None, description="one SELECT with %(start)s and %(end)s (timestamptz); its columns are the data"
    )
    files: tuple[Path, ...] = Field((), description="Parquet or CSV files: globs, or s3:// addresses of a prefix")
    conn_id: ConnId | None = Field(None, description="aws connection for s3:// addresses")
    time_column: str | None = Field(None, description="column of the files that tells when a row was made")

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> DataSource:
        if (self.target is not None, self.sql is not None) not in ((True, True), (False, False)):
            raise ValueError("`target` and `sql` belong together")
        if bool(self.files) == (self.sql is not None):
            raise ValueError("give exactly one of `sql` (with `target`) and `files`")
        if self.files and not self.time_column:
            raise ValueError("`files` need `time_column`: a run answers for the rows of its window")
        if self.sql is not None and not {"%(start)s", "%(end)s"} <= set(_placeholders(self.sql)):
            raise ValueError("`sql` must be bounded by %(start)s and %(end)s: a run answers for the rows of its window")
        if any(path.startswith("s3://") for path in self.files) and not self.conn_id:
            raise ValueError("s3:// addresses need `conn_id`, an Airflow connection of type aws")
        return self


def _placeholders(sql: str) -> list[str]:
    return [f"%({part.partition(')')[0]})s" for part in sql.split("%(")[1:]]


class Labels(Model):
    """What turned out to be true: rows with the key of a scored row, the prediction and the label."""

    source: DataSource
    label: str = Field(description="column with the truth")
    prediction: str = Field(description="column with what the model said")
    probability: str | None = Field(None, description="column with the probability of `positive`")
    positive: str | int | bool = Field(True, description="the value that counts as positive")
    task: Literal["classification", "regression"] = "classification"


class Registry(Model):
    """An MLflow tracking server that knows which version is in service."""

    conn_id: ConnId = Field(description="http connection to the tracking server")
    name: str = Field(min_length=1, description="registered model")
    stage: str | None = Field(None, description="stage, or alias, whose version is in service")


class Retraining(Model):
    """When a model is due to be trained anew, how, and what must then pass. No shell reads the commands."""

    max_age_days: float | None = Field(None, gt=0, description="since the training date in the metadata")
    min_scores: dict[str, float] = Field(default_factory=dict, description="metric of the metadata -> least value")
    command: tuple[str, ...] = Field((), description="program with its arguments; only after somebody agreed")
    test: tuple[str, ...] = Field((), description="program that must end with 0 after training")
    timeout: float = Field(3600, gt=0, description="seconds for each of them")
