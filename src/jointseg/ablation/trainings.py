"""Training of a variant with the schedule that all variants share."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from jointseg.ablation import direct, images, mapping
from jointseg.ablation.mapping import Predictor
from jointseg.ablation.variants import VARIANTS
from jointseg.models import checkpoint as checkpoints
from jointseg.models import mask2former
from jointseg.provenance.digest import file_digest
from jointseg.training import generator as generators
from jointseg.training import joint
from jointseg.training.compute import device
from jointseg.training.history import History
from jointseg.training.job import S, TrainingRun
from jointseg.training.panel import write_panel
from jointseg.training.patches import Patches
from jointseg.training.resume import TrainingState
from jointseg.training.segmentation import segmentation
from jointseg.training.settings import JointSettings, SegmentationSettings, TrainingSettings
from jointseg.training.superres import single_stage_trunk

PredictorFactory = Callable[[Patches], Predictor]


@dataclass(frozen=True)
class Schedule:
    """Settings that all variants share."""

    # model, training: preset of the segmenter
    model: dict[str, Any]
    training: dict[str, Any]
    generator: dict[str, Any]  # preset of the generator; it also sets the size of the direct segmenter
    direct_steps: int  # steps of the direct segmenter, the sum of those of generator and segmenter
    joint: dict[str, float]  # learning rate of the generator and weights of the image losses in joint training


@dataclass(frozen=True)
class VariantTraining:
    """Training of one variant with one seed."""

    variant: str  # key of VARIANTS
    # index, statistics, chips: of the dataset; the statistics select the bands of the variant
    index: Path
    statistics: Path
    chips: list[Path]
    start: Path | None  # checkpoint of the generator, if the variant has one
    schedule: Schedule
    seed: int
    threads: int
    work: Path  # folder to resume the training from
    output: Path  # folder for checkpoints, history.csv and panel.png

    def run(self, data: generators.TrainingData) -> PredictorFactory:
        """Train, and return a function that makes the predictor of a split."""
        spec = VARIANTS[self.variant]
        if spec.image == "none":
            return self._direct(data)
        return self._joint(data) if spec.joint else self._segmenter()

    def _segmenter(self) -> PredictorFactory:
        """Train Mask2Former on the 1 m images of the variant."""
        start = file_digest(self.start)[:16] if self.start is not None else "none"
        folder = self.work / f"images-{start}-{file_digest(self.index)[:16]}"
        if not folder.exists():
            images.write_images(self.variant, folder, self.index, self.statistics, self.chips, self.start)
        path = self.output / "segmenter.safetensors"
        segmentation(
            index=self.index,
            statistics=self.statistics,
            images=folder,
            chips=self.chips,
            checkpoint=path,
            history=self.output / "history.csv",
            panel=self.output / "panel.png",
            method=self.variant,
            model=self._model,
            training=self.schedule.training,
            seed=self.seed,
            threads=self.threads,
            state=str(self.work / "state.pt"),
        )
        network = checkpoints.load(path, "mask2former")[0].to(device())
        assert isinstance(network, mask2former.Segmenter)
        return lambda chips: mapping.predict_from_images(folder, network, chips)

    @property
    def _model(self) -> dict[str, Any]:
        """Settings of the segmenter with the input channels of the variant."""
        return self.schedule.model | {"in_channels": VARIANTS[self.variant].channels}

    def _joint(self, data: generators.TrainingData) -> PredictorFactory:
        """Train the generator and Mask2Former as one network."""
        assert self.start is not None
        generator, header = checkpoints.load(self.start, generators.ARCHITECTURES, data.normalisation)
        network = mask2former.build(**self._model)
        pair = joint.JointNetwork(generator, network).requires_grad_(True).to(device())
        segmentation_settings = SegmentationSettings.read(self.schedule.training)
        common = {field.name: getattr(segmentation_settings, field.name) for field in fields(TrainingSettings)}
        settings = JointSettings.read({**common, "crop_px": segmentation_settings.crop_px, **self.schedule.joint})
        trainer = joint.train(pair, data, segmentation_settings, self._run(settings))
        pair = trainer.average.model
        self._save("generator", pair.generator, header["architecture"]["kwargs"], data, trainer.history)
        self._save("segmenter", pair.segmenter, self._model, data, trainer.history)
        write_panel(self.output / "panel.png", joint.joint_panel(pair, data.validation, trainer.history, 0.5))
        return lambda chips: mapping.predict_from_pair(pair, chips)

    def _direct(self, data: generators.TrainingData) -> PredictorFactory:
        kwargs = generators.with_input_bands({"trunk": single_stage_trunk(self.schedule.generator)}, data)
        settings = SegmentationSettings.read({**self.schedule.training, "steps": self.schedule.direct_steps})
        trainer = direct.train(direct.build(kwargs), data, self._run(settings))
        network = trainer.average.model
        self._save("segmenter", network, kwargs, data, trainer.history)
        write_panel(self.output / "panel.png", direct.direct_panel(network, data.validation, trainer.history))
        return lambda chips: mapping.predict_direct(network, chips)

    def _run(self, settings: S) -> TrainingRun[S]:
        key = {"variant": self.variant, "seed": self.seed, "threads": self.threads, **vars(self.schedule)}
        inputs = [self.index, self.statistics, self.start, *self.chips]
        state = TrainingState(str(self.work / "state.pt"), __name__, inputs, key)
        return TrainingRun(settings, self.seed, self.threads, state)

    def _save(
        self, name: str, network: nn.Module, kwargs: dict[str, Any], data: generators.TrainingData, history: History
    ) -> None:
        architecture = {"name": checkpoints.architecture_name(network), "kwargs": kwargs}
        facts = {"variant": self.variant, "seed": self.seed, "figures": history.rows[-1]}
        path = self.output / f"{name}.safetensors"
        checkpoints.save(path, network, architecture=architecture, normalisation=data.normalisation, extra=facts)
        history.write(self.output / "history.csv")
