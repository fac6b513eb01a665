"""The two networks as one function of a composite window: 10 m reflectance in, 1 m ISA probability or image out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from jointseg.inference.lattice import LR_M
from jointseg.inference.stage_times import stage
from jointseg.models import checkpoint
from jointseg.models.prog_esrgan import segmenter_input, upsample
from jointseg.raster.bands import RGB, band_names
from jointseg.runtime.errors import DataError

REFLECTANCE_PER_DN = 1e-4
DEFAULT_THRESHOLD = 0.5

Precision = Literal["fp32", "bf16"]


class Predictor:
    """A super-resolution network (or bilinear upsampling, where it is None) and a segmenter, ready to run.

    Args:
        generator, segmenter: the networks, as far as they are needed.
        normalisation: mean and standard deviation of reflectance by band.
        threshold: probability from which a pixel is impervious.
        precision: of the networks' arithmetic; "bf16" changes pixels, as `jointseg bench inference` measures.
        device: the first GPU or the CPU, where it is left out.
    """

    def __init__(
        self,
        generator: nn.Module | None,
        segmenter: nn.Module | None,
        normalisation: dict[str, list[float]],
        threshold: float = DEFAULT_THRESHOLD,
        precision: Precision = "fp32",
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = precision
        self._copies = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.generator = self._ready(generator)
        self.segmenter = self._ready(segmenter)
        self.channels: int = segmenter.channels if segmenter is not None else len(RGB)  # type: ignore[assignment]
        # Without a generator the first bands are upsampled, and the segmenter sees these alone.
        count = len(normalisation["mean"]) if generator is not None else self.channels
        self.mean, self.std = (
            torch.tensor(normalisation[key][:count], device=self.device)[:, None, None] for key in ("mean", "std")
        )
        self.bands = band_names(count)
        self.threshold = threshold

    def _ready(self, model: nn.Module | None) -> nn.Module | None:
        if model is None:
            return None
        if self.precision == "bf16":
            # Autocast would round these weights again for every window.
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.to(torch.bfloat16)
        return model.eval().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def load(
        cls,
        method: str,
        segmentation: Path | None,
        superres: Path | None,
        precision: Precision = "fp32",
        device: torch.device | None = None,
    ) -> "Predictor":
        """Reads the checkpoints that a method needs.

        Raises:
            DataError: unknown method, a checkpoint missing or too many, of another architecture, trained for another
                method or not to 1 m, or two checkpoints that were trained with different normalisations.
        """
        if method not in ("superres", "bilinear"):
            raise DataError(f"method is {method!r}: it must be 'superres' or 'bilinear'")
        if (superres is not None) != (method == "superres"):
            raise DataError(
                f"method {method!r} was given the super-resolution checkpoint {superres}; only 'superres' takes one"
            )
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        generator, segmenter, normalisation, threshold = None, None, None, DEFAULT_THRESHOLD
        if superres is not None:
            generator, header = checkpoint.load(superres, "prog_esrgan")
            if header["trained"].get("stage", 2) < 2:
                raise DataError(f"checkpoint {superres} is trained to 2.5 m only; give that of a later stage")
            normalisation = header["normalisation"]
        if segmentation is not None:
            segmenter, header = checkpoint.load(segmentation, "mask2former", normalisation)
            normalisation = header["normalisation"]
            if header["trained"].get("method", method) != method:
                raise DataError(
                    f"checkpoint {segmentation} was trained on {header['trained']['method']} images, not {method}; "
                    "give the checkpoint of the same method"
                )
            threshold = float(header["trained"].get("threshold", DEFAULT_THRESHOLD))
        if normalisation is None:
            raise DataError("a predictor needs a super-resolution or a segmentation checkpoint; give one")
        return cls(generator, segmenter, normalisation, threshold, precision, device)

    def workers(self, threads: int) -> ThreadPoolExecutor:
        """A pool that computes `threads` windows side by side, each on one CPU thread; a GPU is fed by one.

        Convolutions and matrix products may change in the last bits with the number of images in a batch and with the
        number of threads that share one; a window computed alone by one thread is the same whatever runs beside it.
        """
        count = threads if self.device.type == "cpu" else 1
        return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    @torch.inference_mode()
    def window(self, dn: np.ndarray, known: np.ndarray, image: bool = False) -> tuple[Tensor, Tensor | None]:
        """ISA probability and image of one composite window.

        Args:
            dn: uint16 [bands, h, w], reflectance x 10000 at 10 m, of the bands that `bands` names.
            known: bool [h, w]; the rest is filled with the mean of the training images.
            image: whether the image is wanted too.

        Returns:
            float32 [1, 10 h, 10 w], and reflectance float32 [3, 10 h, 10 w] where wanted, at 1 m on the device.
        """
        assert self.segmenter is not None
        with stage("preprocess"):
            x = self._normalised(dn, known)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            with stage("super-resolution"):
                made = self._sharpen(x)
            with stage("segmentation"):
                seen = segmenter_input(made, x, self.channels).contiguous(memory_format=torch.channels_last)
                probability = self.segmenter(seen)[0].float()
        return probability, self._as_reflectance(made) if image else None

    def probability(self, dn: np.ndarray, known: np.ndarray) -> Tensor:
        """The first of what `window` gives."""
        return self.window(dn, known)[0]

    @torch.inference_mode()
    def reflectance(self, dn: np.ndarray, known: np.ndarray) -> Tensor:
        """The 1 m image alone; see `window`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            image = self._sharpen(self._normalised(dn, known))
        return self._as_reflectance(image)

    def _as_reflectance(self, image: Tensor) -> Tensor:
        rgb = slice(len(RGB))
        return image[0].float() * self.std[rgb] + self.mean[rgb]

    def _normalised(self, dn: np.ndarray, known: np.ndarray) -> Tensor:
        """[1, bands, h, w] at 10 m, unknown pixels at the mean (0)."""
        reflectance = self._uploaded(dn.astype(np.float32))[None] * REFLECTANCE_PER_DN
        seen = self._uploaded(np.ascontiguousarray(known))
        return torch.where(seen, (reflectance - self.mean) / self.std, 0).contiguous(memory_format=torch.channels_last)

    def _uploaded(self, array: np.ndarray) -> Tensor:
        """On the device; to a GPU from pinned memory on a stream of its own, beside what is computed of the window before."""
        here = torch.from_numpy(array)
        if self._copies is None:
            return here
        with torch.cuda.stream(self._copies):
            there = here.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copies)
        there.record_stream(computing)
        return there

    def _sharpen(self, x: Tensor) -> Tensor:
        """Normalised bands [1, bands, h, w] -> normalised RGB [1, 3, 10 h, 10 w] at 1 m."""
        return self.generator(x)[1] if self.generator is not None else upsample(x[:, : len(RGB)], LR_M)
