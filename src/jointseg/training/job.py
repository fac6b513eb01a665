"""Arguments of the training steps."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from jointseg.runtime import distributed
from jointseg.training.determinism import make_deterministic
from jointseg.training.resume import TrainingState
from jointseg.training.settings import TrainingSettings

S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class TrainingRun(Generic[S]):
    """What the training loop needs besides networks and data."""

    settings: S
    seed: int  # of all random draws
    threads: int  # that load batches
    state: TrainingState  # file to resume from
    events: str | None = None  # folder of the TensorBoard event files; None writes none


@dataclass(frozen=True, kw_only=True)
class TrainingJob(Generic[S]):
    """Arguments that all training steps have: the inputs, outputs and params of their rules."""

    index: Path  # index.parquet of the dataset
    statistics: Path  # statistics.json of the dataset
    chips: list[Path]  # chip folders of the reaches
    history: Path  # CSV to write, metrics by step
    panel: Path  # PNG to write, learning curves and images of validation chips
    training: S  # settings of the training
    seed: int  # of all random draws
    threads: int  # of torch, and that load batches
    state: str | None = None  # file of the unfinished training; a rerun resumes from it. None saves no state
    events: str | None = None  # folder of the TensorBoard event files; None writes none

    @classmethod
    def read(cls, settings: type[S], arguments: Mapping[str, Any]) -> Self:
        """Return the job of a step's keyword arguments, whose `training` is a section of the config.

        Raises DataError if the settings are invalid.
        """
        return cls(**{**arguments, "training": settings.read(arguments["training"])})

    def run(self, module: str, inputs: Sequence[Path | None], **settings: Any) -> TrainingRun[S]:
        """Return the options of the training loop. `module` is that of the step.

        A saved state is valid only for the same code, `inputs` (files besides the dataset) and `settings` (JSON-able
        values besides those of `training`).
        """
        settings |= {"training": asdict(self.training), "seed": self.seed, "threads": self.threads}
        state = TrainingState(self.state, module, [self.index, self.statistics, *self.chips, *inputs], settings)
        return TrainingRun(self.training, self.seed, self.threads, state, self.events)


@dataclass(frozen=True, kw_only=True)
class NetworkJob(TrainingJob[S]):
    """Arguments of a training of one network."""

    checkpoint: Path  # safetensors file to write
    model: dict[str, Any]  # keyword arguments of the network, which the checkpoint's header stores


def accepts(job: type[TrainingJob[Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a step with `**job` the signature of the job's fields: the replay of jobs and the tests of rules inspect it."""

    def decorate(step: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(step)
        named = [each for each in own.parameters.values() if each.kind is inspect.Parameter.KEYWORD_ONLY]
        fields = inspect.signature(job).parameters.values()
        step.__signature__ = own.replace(parameters=[*named, *fields])  # type: ignore[attr-defined]
        step.__annotations__ = typing.get_type_hints(job) | {each.name: each.annotation for each in named}
        return step

    return decorate


def run_job(train: Callable[..., dict[str, Any]], job: TrainingJob[Any], **inputs: Path | None) -> dict[str, Any]:
    """Return train(job, **inputs), run deterministically by `job.training.devices` processes."""
    if distributed.needs_launch(job.training.devices):
        return distributed.launch(run_job, job.training.devices, {"train": train, "job": job, **inputs})
    make_deterministic(job.seed, job.threads)
    return train(job, **inputs)
