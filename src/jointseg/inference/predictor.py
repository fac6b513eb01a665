"""Both networks as one function of a composite window: from 10 m reflectance to 1 m ISA probability or image."""

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
    """A super-resolution network (or bilinear upsampling) and a segmenter on a device.

    Args:
        generator, segmenter: without generator the image is bilinear, without segmenter only images are available.
        normalisation: mean and standard deviation of reflectance by band.
        threshold: probability from which a pixel is impervious.
        precision: of the networks' arithmetic; "bf16" changes pixels, which `jointseg bench inference` measures.
        device: by default the first GPU, or the CPU without one.
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
        self._copy_stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self.generator = self._prepared(generator)
        self.segmenter = self._prepared(segmenter)
        self.channels: int = segmenter.channels if segmenter is not None else len(RGB)  # type: ignore[assignment]
        # Without a generator, only the segmenter's bands are read; they are upsampled.
        count = len(normalisation["mean"]) if generator is not None else self.channels
        self.mean, self.std = (
            torch.tensor(normalisation[key][:count], device=self.device)[:, None, None] for key in ("mean", "std")
        )
        self.bands = band_names(count)
        self.threshold = threshold

    def _prepared(self, model: nn.Module | None) -> nn.Module | None:
        if model is None:
            return None
        if self.precision == "bf16":
            # Autocast would round these weights for every window.
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
        """Load the checkpoints of a method.

        Raises DataError for an invalid method; a checkpoint that is missing, superfluous, of another architecture,
        trained for another method or not to 1 m; and checkpoints with different normalisations.
        """
        if method not in ("superres", "bilinear"):
            raise DataError(f"method is {method!r}; expected 'superres' or 'bilinear'")
        if (superres is not None) != (method == "superres"):
            raise DataError(
                f"method is {method!r} and the super-resolution checkpoint {superres}; only 'superres' needs one"
            )
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        generator, segmenter, normalisation, threshold = None, None, None, DEFAULT_THRESHOLD
        if superres is not None:
            generator, header = checkpoint.load(superres, "prog_esrgan")
            if header["trained"].get("stage", 2) < 2:
                raise DataError(f"checkpoint {superres} is trained to 2.5 m only; use one of a later stage")
            normalisation = header["normalisation"]
        if segmentation is not None:
            segmenter, header = checkpoint.load(segmentation, "mask2former", normalisation)
            normalisation = header["normalisation"]
            if header["trained"].get("method", method) != method:
                raise DataError(
                    f"checkpoint {segmentation} was trained on {header['trained']['method']} images, not {method}; "
                    "use a checkpoint of the same method"
                )
            threshold = float(header["trained"].get("threshold", DEFAULT_THRESHOLD))
        if normalisation is None:
            raise DataError("there is no checkpoint; add a super-resolution or a segmentation checkpoint")
        return cls(generator, segmenter, normalisation, threshold, precision, device)

    def workers(self, threads: int) -> ThreadPoolExecutor:
        """Return a pool that computes `threads` windows in parallel, each on one CPU thread; one thread feeds a GPU.

        The last bits of convolutions and matrix products can depend on the batch size and on the number of threads of one
        operation. A window computed separately by one thread is always the same.
        """
        count = threads if self.device.type == "cpu" else 1
        return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    @torch.inference_mode()
    def predict_window(self, dn: np.ndarray, valid: np.ndarray, image: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the ISA probability of one composite window and, if `image`, its reflectance; both at 1 m on the
        device.

        Args:
            dn: uint16 [bands, h, w], reflectance x 10000 at 10 m, of `bands`.
            valid: bool [h, w]; other pixels are set to the mean of the training images.

        Returns:
            Probability, float32 [1, 10 h, 10 w], and reflectance, float32 [3, 10 h, 10 w], or None.
        """
        assert self.segmenter is not None
        with stage("preprocess"):
            x = self._normalised(dn, valid)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            with stage("super-resolution"):
                hr = self._super_resolved(x)
            with stage("segmentation"):
                stacked = segmenter_input(hr, x, self.channels).contiguous(memory_format=torch.channels_last)
                probability = self.segmenter(stacked)[0].float()
        return probability, self._as_reflectance(hr) if image else None

    def probability(self, dn: np.ndarray, valid: np.ndarray) -> Tensor:
        """Return only the probability of `predict_window`."""
        return self.predict_window(dn, valid)[0]

    @torch.inference_mode()
    def reflectance(self, dn: np.ndarray, valid: np.ndarray) -> Tensor:
        """Return only the 1 m image; see `predict_window`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            image = self._super_resolved(self._normalised(dn, valid))
        return self._as_reflectance(image)

    def _as_reflectance(self, image: Tensor) -> Tensor:
        rgb = slice(len(RGB))
        return image[0].float() * self.std[rgb] + self.mean[rgb]

    def _normalised(self, dn: np.ndarray, valid: np.ndarray) -> Tensor:
        """Return normalised bands [1, bands, h, w] at 10 m, invalid pixels at the mean (0)."""
        reflectance = self._uploaded(dn.astype(np.float32))[None] * REFLECTANCE_PER_DN
        mask = self._uploaded(np.ascontiguousarray(valid))
        return torch.where(mask, (reflectance - self.mean) / self.std, 0).contiguous(memory_format=torch.channels_last)

    def _uploaded(self, array: np.ndarray) -> Tensor:
        """Copy an array to the device; to a GPU from pinned memory on a separate stream, parallel to the previous window."""
        host = torch.from_numpy(array)
        if self._copy_stream is None:
            return host
        with torch.cuda.stream(self._copy_stream):
            uploaded = host.pin_memory().to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._copy_stream)
        uploaded.record_stream(computing)
        return uploaded

    def _super_resolved(self, x: Tensor) -> Tensor:
        """Return normalised RGB [1, 3, 10 h, 10 w] at 1 m from normalised bands [1, bands, h, w]."""
        return self.generator(x)[1] if self.generator is not None else upsample(x[:, : len(RGB)], LR_M)
