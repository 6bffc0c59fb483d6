"""Images from a folder or an archive, read row by row as sequences."""

from __future__ import annotations

import collections
import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxlstm.data.archives import members
from jaxlstm.data.sequences import SequenceData

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_ENDINGS = "jpg jpeg jpe jfif png bmp gif webp tif tiff ppm pgm pbm"
SUFFIXES = frozenset("." + ending for ending in _ENDINGS.split())
#: Larger images are refused: a file of a few kilobytes can unpack to gigabytes.
PIXELS = 64 << 20

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_CHUNK = 64


class Decoded(NamedTuple):
    """One file: its pixels, or why there are none."""

    name: PurePosixPath
    image: np.ndarray | None  # [H, W] or [H, W, 3], uint8
    shape: tuple[int, int] = (0, 0)  # height and width in the file
    error: str = ""


def decode_image(
    content: bytes, size: tuple[int, int] | None = None, grayscale: bool = True
) -> np.ndarray:
    """Decodes one image, upright as its EXIF data say.

    Args:
      content: of a JPEG, PNG, BMP, GIF (its first frame), WebP, TIFF or PPM file.
      size: height and width to resize to, by Pillow's bilinear filter, which averages over all the
        pixels that fall into a new one (no aliasing); None keeps the size.
      grayscale: one channel, by the ITU-R 601 weights; otherwise three. What is transparent
        becomes white.

    Returns:
      Pixels ``[H, W]`` or ``[H, W, 3]``, uint8.

    Raises:
      ValueError: no such image, a damaged one, or one of more than 64 million pixels.
    """
    check_size(size)
    return _decode(content, size, grayscale)[0]


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes one image ``[H, W]`` or ``[H, W, 3]``, uint8, as ``decode_image`` does."""
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def _decode(
    content: bytes, size: tuple[int, int] | None, grayscale: bool
) -> tuple[np.ndarray, tuple[int, int]]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            shape = image.height, image.width
            if image.width * image.height > PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            ImageOps.exif_transpose(image, in_place=True)
            flat = _flat(image, "L" if grayscale else "RGB")
            pixels = np.asarray(flat)
            return (pixels if size is None else resize(pixels, size)), shape
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}, or damaged") from error
    except Exception as error:  # damaged files make Pillow raise anything
        raise ValueError(str(error).strip().rstrip(".") or type(error).__name__) from error


def _flat(image: Any, mode: str) -> Any:
    """The image in 8 bits a channel, without transparency."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) / 257).clip(0, 255).round().astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floats, whose range the file does not say")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def decode_images(
    files: Iterable[tuple[PurePosixPath, bytes]],
    size: tuple[int, int] | None,
    grayscale: bool,
) -> list[Decoded]:
    """Decodes images on all cores, reading no further ahead than they can follow.

    Args:
      files: names and contents.
      size: see ``decode_image``.
      grayscale: see ``decode_image``.

    Returns:
      One entry a file, in their order; a damaged one has its error in place of pixels.
    """
    check_size(size)

    def decode(chunk: list[tuple[PurePosixPath, bytes]]) -> list[Decoded]:
        decoded = []
        for name, content in chunk:
            try:
                image, shape = _decode(content, size, grayscale)
                decoded.append(Decoded(name, image, shape))
            except ValueError as error:
                decoded.append(Decoded(name, None, error=str(error)))
        return decoded

    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    done: list[Decoded] = []
    waiting: collections.deque[Future[list[Decoded]]] = collections.deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        # Pillow's remarks on odd files name none of them; a file that is refused is listed.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for chunk in _chunks(files):
            waiting.append(pool.submit(decode, chunk))
            if len(waiting) > 2 * (workers or 1):
                done += waiting.popleft().result()
        for future in waiting:
            done += future.result()
    return done


def _chunks(
    files: Iterable[tuple[PurePosixPath, bytes]],
) -> Iterator[list[tuple[PurePosixPath, bytes]]]:
    chunk: list[tuple[PurePosixPath, bytes]] = []
    held = 0
    for file in files:
        chunk.append(file)
        held += len(file[1])
        if len(chunk) == _CHUNK or held > 8 << 20:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def load_image_folder(
    path: str | Path, *, size: tuple[int, int] = (32, 32), grayscale: bool = True
) -> SequenceData | dict[str, SequenceData]:
    """Loads images that lie in one folder a class.

    An image is a sequence of its rows, from top to bottom, with values in [0, 1]. The files come
    in the order of their names, whatever they lie in. Hidden files are passed over; an image that
    cannot be read is listed in ``skipped`` and counted in ``dropped``.

    Args:
      path: a folder, zip or (compressed) tar with ``<class>/<any>.png`` (or jpg, bmp, gif, webp,
        tiff, ppm), or ``<split>/<class>/<any>.png`` where the splits are called train, validation
        (or val, valid) and test. It may have one folder around all.
      size: height and width that all are resized to, see ``decode_image``.
      grayscale: ``x`` is ``[N, H, W]``; otherwise ``[N, H, W * 3]``, a row's red, green and blue
        side by side for each pixel.

    Returns:
      The data, or one for each split.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: no image that can be read; fewer than two classes; a damaged archive.
    """
    path = Path(path)
    files, others = read_images(path, size, grayscale)
    parts = assemble(files, others, path, name=_stem(path))
    return parts.get("", parts)


def read_images(
    path: Path, size: tuple[int, int], grayscale: bool
) -> tuple[list[Decoded], list[PurePosixPath]]:
    """Reads every image of a folder or archive.

    Returns:
      The images in the order of their names, and the names of other files.
    """
    others = []

    def wanted(name: PurePosixPath) -> bool:
        if any(part.startswith(".") or part == "__MACOSX" for part in name.parts):
            return False
        if name.suffix.lower() not in SUFFIXES:
            others.append(name)
            return False
        return True

    # A tar may hold a name twice, and then, as when it is unpacked, the last one counts.
    by_name = {file.name: file for file in decode_images(members(path, wanted), size, grayscale)}
    files = [by_name[name] for name in sorted(by_name)]
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))}).")
    if all(file.image is None for file in files):
        raise ValueError(
            f"{path}: none of the {len(files):,} images can be read; {files[0].name}:"
            f" {files[0].error}."
        )
    return files, others


def assemble(
    files: Sequence[Decoded],
    others: Sequence[PurePosixPath],
    path: Path,
    name: str,
    classes: Sequence[str] | None = None,
) -> dict[str, SequenceData]:
    """Makes data sets of images by the folders that they lie in.

    Args:
      files: the images, all of one size.
      others: names of other files; those in a class's folder are counted as dropped.
      path: where they are from.
      name: of the data set.
      classes: the only ones allowed, in small letters; None takes the folders' names.

    Returns:
      One for each split, or one named "" where there are no splits.
    """
    places = _places([file.name for file in files])
    if classes is not None:
        places = {file: (split, label.lower()) for file, (split, label) in places.items()}
    found = sorted({place[1] for place in places.values() if place[1]})
    if classes is None and len(found) < 2:
        raise ValueError(
            f"{path} must hold a folder of images for each of two or more classes; found"
            f" {', '.join(found) or 'none'} ({len(files):,} images, the first is {files[0].name})."
        )
    classes = found if classes is None else classes
    if unknown := set(found) - set(classes):
        file = next(file for file in files if places[file.name][1] in unknown)
        raise ValueError(
            f"{path}: {file.name} lies in a folder of an unknown class; the classes are"
            f" {', '.join(classes)}."
        )
    index = {label: number for number, label in enumerate(classes)}
    parts = {}
    order = {split: number for number, split in enumerate(_SPLITS.values())}
    for split in sorted({place[0] for place in places.values()}, key=lambda s: order.get(s, -1)):
        mine = [file for file in files if places[file.name][0] == split]
        good = [file for file in mine if file.image is not None and places[file.name][1]]
        if not good:
            raise ValueError(f"{path}: no image of {split or 'it'} can be read.")
        bad = [(file, "corrupt image") for file in mine if file.image is None]
        bad += [
            (file, "outside of the classes' folders")
            for file in mine
            if file.image is not None and not places[file.name][1]
        ]
        dropped = collections.Counter(reason for _, reason in bad)
        odd = _in_classes(others, places, split)
        if odd:
            dropped["not an image"] = len(odd)
        parts[split] = SequenceData(
            x=_rows([file.image for file in good]),
            y=np.array([index[places[file.name][1]] for file in good], np.int32),
            classes=tuple(classes),
            name=name,
            source=f"{path} ({_shapes(good)})",
            dropped=dict(dropped),
            skipped=(
                *(f"{file.name}: {file.error or reason}." for file, reason in bad),
                *(f"{name}: not an image, by its ending." for name in odd),
            ),
        )
    return parts


def _places(names: Sequence[PurePosixPath]) -> dict[PurePosixPath, tuple[str, str]]:
    """Split and class of each name; "" where it has none."""
    depth = 0
    for level in zip(*(name.parts[:-1] for name in names), strict=False):
        if len(set(level)) > 1:
            break
        depth += 1  # a folder around all
    inner = {name: name.parts[depth:-1] for name in names}
    firsts = {folders[0].casefold() for folders in inner.values() if folders}
    # One folder called test may be a class of that name.
    if firsts and firsts <= set(_SPLITS) and any(len(folders) > 1 for folders in inner.values()):
        return {
            name: (
                _SPLITS[folders[0].casefold()] if folders else next(iter(_SPLITS.values())),
                folders[1] if len(folders) > 1 else "",
            )
            for name, folders in inner.items()
        }
    return {name: ("", folders[0] if folders else "") for name, folders in inner.items()}


def _in_classes(
    others: Sequence[PurePosixPath],
    places: Mapping[PurePosixPath, tuple[str, str]],
    split: str,
) -> list[PurePosixPath]:
    """The files, not images, that lie in a folder with images of a class of this split."""
    folders = {name.parent for name, (part, label) in places.items() if part == split and label}
    return sorted(name for name in others if name.parent in folders)


def _rows(images: Sequence[Any]) -> np.ndarray:
    """Images of one size as ``[N, H, W * channels]`` in [0, 1]."""
    pixels = np.stack(images)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return scaled(pixels)


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Pixels 0..255 as float32 in [0, 1]."""
    return np.divide(pixels, 255, dtype=np.float32)


def _shapes(files: Sequence[Decoded]) -> str:
    shapes = collections.Counter(file.shape for file in files)
    if len(shapes) == 1:
        ((height, width),) = shapes
        return f"{len(files):,} images of {width} x {height} pixels"
    widths = [width for _, width in shapes]
    heights = [height for height, _ in shapes]
    return (
        f"{len(files):,} images of {len(shapes)} sizes, {min(widths)} to {max(widths)} wide and"
        f" {min(heights)} to {max(heights)} high"
    )


def _stem(path: Path) -> str:
    name = path.resolve().name
    for ending in (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def check_size(size: tuple[int, int] | None) -> None:
    """Refuses what is no height and width."""
    if size is None:
        return
    whole = [side for side in size if isinstance(side, (int, np.integer)) and 0 < side <= 4096]
    if len(size) != 2 or len(whole) != 2:
        raise ValueError(f"size must be height and width, 1 to 4096 pixels, got {size}.")
