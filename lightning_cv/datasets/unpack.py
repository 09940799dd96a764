"""Archives unpacked below a folder and nowhere else: paths that leave it, links and devices are refused."""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.meter import Meter


def unpack(path: Path, folder: Path) -> None:
    """Unpacks tar, zip or gz by the name's ending; any other file is copied into the folder. The archive stays.

    An archive that is damaged or holds a member that must not be written is removed, with an error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if path.name.endswith((".tar", ".tar.gz", ".tgz")):
            _unpack_tar(path, folder)
        elif path.suffix == ".zip":
            _unpack_zip(path, folder)
        elif path.suffix == ".gz":
            _unpack_gzip(path, folder / path.stem)
        else:
            shutil.copyfile(path, folder / path.name)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{path.name}: damaged archive ({error}); it was removed, run the command again") from None
    except DataError:
        path.unlink(missing_ok=True)
        raise


def _unpack_tar(path: Path, folder: Path) -> None:
    with tarfile.open(path) as archive, Meter(f"unpacking {path.name}", None) as meter:
        for member in archive:
            _refuse_outside(path, member.name)
            if not (member.isfile() or member.isdir()):
                raise DataError(f"{path.name}: its member {member.name!r} is a link or a device: not unpacked, removed")
            archive.extract(member, folder, set_attrs=False, filter="data")
            meter.add(member.size)


def _unpack_zip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        with Meter(f"unpacking {path.name}", sum(member.file_size for member in members)) as meter:
            for member in members:
                _refuse_outside(path, member.filename)
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(
                        f"{path.name}: its member {member.filename!r} is a link or a device: not unpacked, removed"
                    )
                archive.extract(member, folder)
                meter.add(member.file_size)


def _unpack_gzip(path: Path, target: Path) -> None:
    with gzip.open(path) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)


def _refuse_outside(path: Path, name: str) -> None:
    """A member's name must stay below the folder on every system, also before links are followed."""
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or ":" in name:
        raise DataError(f"{path.name}: its member {name!r} points outside the folder: not unpacked, removed")
