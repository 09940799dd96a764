"""Images as bytes: what a code costs and what it loses. Letters: N images; C, H, W; L numbers in a code.

Every codec gets the same images, rounded to 8 bits, and its pictures are rounded to 8 bits, too. What both sides know
before the first image arrives costs nothing: the standards' own tables, the net's weights, the histograms of the
training codes. Everything else is counted in bytes that were really written.
"""

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_cv.metrics.images import WINDOW, psnr, ssim
from lightning_cv.ops.entropy_coding import SymbolTable, decode, encode

Pixels = NDArray[np.uint8]  # (N, H, W, C)

BLOCK = 16
"""Side in pixels of the blocks that JPEG (with halved colours) and WebP code: images of a mosaic share none."""

MOSAIC = 20
"""Images a side of a mosaic."""

MOST_PSNR = 58.92
"""dB of values that were rounded to 8 bits: 10 log10(12 * 255^2). What one image of a lossy code counts at most."""

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


class Coded(NamedTuple):
    """Images (N, C, H, W), 0 to 1, as they came out of a code, and the bytes that the code took for all of them."""

    images: Tensor
    size: int


class Figures(NamedTuple):
    """A code's rate and its distortion, means over the images."""

    bits_per_image: float
    bits_per_pixel: float  # a pixel being a place, not a channel of it
    psnr: float  # dB; infinite where all images came back as they were
    ssim: float  # NaN for images smaller than SSIM's window


def eight_bits(images: Tensor) -> Tensor:
    """The images with values rounded to multiples of 1/255, same shape."""
    return (images.clamp(0, 1) * 255).round() / 255


def figures(coded: Coded, images: Tensor) -> Figures:
    """What a code cost and lost of images (N, C, H, W) that were rounded to 8 bits."""
    count, _, height, width = images.shape
    bits = 8 * coded.size / count
    large = min(height, width) >= WINDOW
    likeness = float(ssim(coded.images, images).mean()) if large else float("nan")
    ratios = psnr(coded.images, images)  # (N,)
    if not ratios.isinf().all():
        ratios = ratios.clamp(max=MOST_PSNR)  # a blank image that came back exactly does not make the code lossless
    return Figures(bits, bits / (height * width), float(ratios.mean()), likeness)


def code_latents(codes: Tensor, train: Tensor, step: float) -> tuple[Tensor, int]:
    """Codes (N, L) after quantisation and transmission, and its bytes.

    Each number is rounded to a multiple of `step` and coded under the histogram of its column in the training codes
    (M, L). What is returned was decoded from the bytes.
    """
    if not step > 0:
        raise ValueError(f"the step of the quantiser must be positive, got {step}")
    tables = [SymbolTable.fit(column) for column in _quantised(train, step).T]
    sent = encode(_quantised(codes, step), tables)
    received = torch.from_numpy(decode(sent, len(codes), tables))
    return (received * step).to(codes), len(sent)


def _quantised(codes: Tensor, step: float) -> NDArray[np.int64]:
    whole: NDArray[np.int64] = (codes.detach().double().cpu() / step).round().to(torch.int64).numpy()
    return whole


def code_spread(codes: Tensor) -> float:
    """Root mean square deviation of codes (N, L) over all latents: the unit in which steps compare between nets."""
    return float(codes.double().var(dim=0, correction=0).mean().sqrt())


class LinearAutoencoder:
    """The best linear codes of a size: principal components of training images (M, C, H, W).

    Pearson 1901; a linear autoencoder trained on squared error spans the same space (Baldi and Hornik 1989).
    """

    def __init__(self, images: Tensor, latent_size: int) -> None:
        most = min(len(images), images[0].numel())
        if not 1 <= latent_size <= most:
            raise ValueError(f"{len(images)} images of {images[0].numel()} values have 1 to {most} components")
        self.shape = images.shape[1:]
        self._pca = PCA(latent_size, svd_solver="randomized", random_state=0).fit(images.flatten(1).cpu().numpy())

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, L)."""
        return torch.from_numpy(self._pca.transform(images.flatten(1).cpu().numpy()))

    def decode(self, codes: Tensor) -> Tensor:
        """Images (N, C, H, W), not clamped."""
        return torch.from_numpy(self._pca.inverse_transform(codes.numpy())).reshape(-1, *self.shape).float()


def jpeg_scans(images: Tensor, quality: int) -> Coded:
    """Each image a JPEG of its own, of which the bytes between the scan's header and the end mark count.

    What comes before, about 330 bytes, is the same for all: a small picture would be judged by its header.
    """
    files = [_saved(pixels, "JPEG", quality) for pixels in _pixels(images)]
    return Coded(_tensor(np.stack([_opened(file, images.shape[1]) for file in files])), sum(map(_scan_size, files)))


def mosaics(images: Tensor, form: Literal["JPEG", "WEBP"], quality: int) -> Coded:
    """Images side by side in large pictures, all bytes of which count: the header shares out over up to 400 images.

    Each image is padded to whole blocks of 16 pixels with its border's values, so that no block holds two images.
    """
    coded = list(_mosaics(_pixels(images), lambda mosaic: _saved(mosaic, form, quality)))
    return Coded(_tensor(np.concatenate([parts for parts, _ in coded])), sum(size for _, size in coded))


def png_mosaics(images: Tensor) -> Coded:
    """Mosaics as PNG, lossless."""
    coded = list(_mosaics(_pixels(images), lambda mosaic: _saved(mosaic, "PNG", None)))
    return Coded(_tensor(np.concatenate([parts for parts, _ in coded])), sum(size for _, size in coded))


def zlib_all(images: Tensor) -> Coded:
    """All values one after the other through zlib at its best, lossless: what knows nothing of pictures."""
    pixels = _pixels(images)
    packed = zlib.compress(pixels.tobytes(), 9)
    unpacked = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(pixels.shape)
    return Coded(_tensor(unpacked), len(packed))


def _mosaics(pixels: Pixels, save: Callable[[Pixels], bytes]) -> Iterator[tuple[Pixels, int]]:
    """Of each mosaic its images as they come back, and its bytes."""
    height, width, channels = pixels.shape[1:]
    padding = ((0, 0), (0, -height % BLOCK), (0, -width % BLOCK), (0, 0))
    for start in range(0, len(pixels), MOSAIC**2):
        part = pixels[start : start + MOSAIC**2]
        columns = min(MOSAIC, len(part))
        rows = -(-len(part) // columns)
        tiles = np.pad(part, padding, mode="edge")
        empty = np.zeros((rows * columns - len(part), *tiles.shape[1:]), np.uint8)  # all but free in every format
        tiles = np.concatenate([tiles, empty])
        high, wide = tiles.shape[1:3]
        grid = tiles.reshape(rows, columns, high, wide, channels).swapaxes(1, 2)  # (rows, high, columns, wide, C)
        file = save(grid.reshape(rows * high, columns * wide, channels))
        back = _opened(file, channels).reshape(rows, high, columns, wide, channels).swapaxes(1, 2)
        yield back.reshape(-1, high, wide, channels)[: len(part), :height, :width], len(file)


def _saved(pixels: Pixels, form: str, quality: int | None) -> bytes:
    """A file's bytes. No `optimize` for JPEG: it would move information from the scan into tables of the header."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if quality is None:
        picture.save(buffer, form, optimize=True)
    else:
        picture.save(buffer, form, quality=quality, **({"method": 6} if form == "WEBP" else {}))
    return buffer.getvalue()


def _opened(file: bytes, channels: int) -> Pixels:
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def _scan_size(file: bytes) -> int:
    """Bytes of a baseline JPEG's one scan: after the scan's header, which states its own length, to the end mark."""
    scan = file.index(START_OF_SCAN) + 2
    assert file.endswith(END_OF_IMAGE)
    return len(file) - scan - int.from_bytes(file[scan : scan + 2], "big") - len(END_OF_IMAGE)


def _pixels(images: Tensor) -> Pixels:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"codecs take images (N, 1 or 3, H, W), at least one; got shape {tuple(images.shape)}")
    scaled: Pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return scaled


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
