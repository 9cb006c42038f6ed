"""Unpacking: what is wanted comes out of an archive, and nothing that a hostile one wants happens."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datasets import DatasetError, unpack
from datasets.catalogue import Unpacking

LAYOUT = Unpacking(
    marks=("img/*.jpg", "train.txt"), take=("img/*.jpg", "*.txt"), most_bytes=10**7, most_members=100, most_ratio=20
)
GOOD = {"top/set/img/a.jpg": b"a" * 1000, "top/set/img/b.jpg": b"b", "top/set/train.txt": b"a\nb\n", "top/README": b"?"}


# Where the header of the last member of a tar of GOOD begins.
AT = 7 * 512


def tar_info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write_tar(
    path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w", first: bool = False
) -> Path:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
        if first:
            for info in extra:
                tar.addfile(info, io.BytesIO(b"\0" * info.size))
        for name, content in files.items():
            tar.addfile(tar_info(name, size=len(content)), io.BytesIO(content))
        if not first:
            for info in extra:
                tar.addfile(info, io.BytesIO(b"\0" * info.size))
    return path


def write_zip(path: Path, files: dict[str, bytes], *extra: tuple[zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
        for info, content in extra:
            packed.writestr(info, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return tmp_path / "place" / "staging"


def refused(source: Path, staging: Path, said: str, unpacking: Unpacking = LAYOUT) -> None:
    """Expect an error, nothing outside `staging`, and no link or foreign file in it."""
    beside = set(source.parent.iterdir())
    with pytest.raises(DatasetError, match=said):
        unpack.unpack(source, unpacking, staging, "set")
    assert set(source.parent.iterdir()) <= beside | {staging.parent}
    assert list(staging.parent.iterdir()) == [staging]
    for path in staging.rglob("*"):
        assert path.is_dir() or stat.S_ISREG(path.lstat().st_mode)
        assert not path.is_symlink()


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "tar": lambda folder: write_tar(folder / "x", GOOD),
    "tgz": lambda folder: write_tar(folder / "x", GOOD, mode="w:gz"),
    "tar of folders": lambda folder: write_tar(
        folder / "x", {f"./{k}": v for k, v in GOOD.items()}, tar_info("./top", tarfile.DIRTYPE), first=True
    ),
    "zip": lambda folder: write_zip(folder / "x", GOOD),
    "zip of Windows": lambda folder: write_zip(folder / "x", {k.replace("/", "\\"): v for k, v in GOOD.items()}),
    "zip of macOS": lambda folder: write_zip(
        folder / "x", {**GOOD, **{f"__MACOSX/{k}": b"!" for k in GOOD}, "top/set/img/._a.jpg": b"!"}
    ),
    "folder": lambda folder: write_folder(folder / "x", GOOD),
    "folder itself": lambda folder: write_folder(folder / "x", {k.removeprefix("top/set/"): GOOD[k] for k in GOOD}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_wanted_comes_out(kind: str, tmp_path: Path, staging: Path) -> None:
    written = unpack.unpack(WRITERS[kind](tmp_path), LAYOUT, staging, "set")
    wanted = {"img/a.jpg": b"a" * 1000, "img/b.jpg": b"b", "train.txt": b"a\nb\n"}
    assert tree(staging) == wanted
    assert written == {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}


OUTSIDE = [
    "../evil.jpg",
    "top/set/img/../../../../evil.jpg",
    "/tmp/evil.jpg",
    "..\\evil.jpg",
    "C:\\evil.jpg",
    "C:evil.jpg",
    "\\\\host\\evil.jpg",
    "top/set/img/..",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_refuses_the_archive(name: str, tmp_path: Path, staging: Path) -> None:
    refused(write_tar(tmp_path / "x", {**GOOD, name: b"!"}), staging, "leads out of its folder")
    refused(write_zip(tmp_path / "x", {**GOOD, name: b"!"}), staging, "leads out of its folder")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("top/set/img/new\nline.jpg", "control characters"),
        ("top/set/img/esc\x1b[2J.jpg", "control characters"),
        ("top/set/img/" + "x" * 300 + ".jpg", "a name of 316 characters"),
        ("top/" * 300 + "x.jpg", "a name of 1205 characters"),
        ("t/" * 30 + "x.jpg", "31 folders deep"),
    ],
)
def test_a_name_that_no_file_has_refuses_the_archive(name: str, said: str, tmp_path: Path, staging: Path) -> None:
    refused(write_tar(tmp_path / "x", {**GOOD, name: b"!"}), staging, said)
    refused(write_zip(tmp_path / "x", {**GOOD, name: b"!"}), staging, said)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (tar_info("top/set/img/l.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"), "l.jpg, which is a symbolic link"),
        (tar_info("top/set/img/l.jpg", tarfile.LNKTYPE, linkname="/etc/passwd"), "l.jpg, which is a hard link"),
        (tar_info("top/set/img/l.jpg", tarfile.LNKTYPE, linkname="top/README"), "l.jpg, which is a hard link"),
        (tar_info("top/set/img/l.jpg", tarfile.FIFOTYPE), "no plain file"),
        (tar_info("top/set/img/l.jpg", tarfile.CHRTYPE, devmajor=1, devminor=3), "no plain file"),
        (tar_info("top/set/img/l.jpg", tarfile.BLKTYPE), "no plain file"),
        (tar_info("top/set/img/a.jpg"), "is in it twice"),
    ],
)
def test_what_is_no_plain_file_of_its_own_is_refused(
    info: tarfile.TarInfo, said: str, tmp_path: Path, staging: Path
) -> None:
    refused(write_tar(tmp_path / "x", GOOD, info), staging, said)
    refused(write_tar(tmp_path / "x", GOOD, info, mode="w:gz"), staging, said)


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path, staging: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tar_info("top/set/img", tarfile.SYMTYPE, linkname=str(outside))
    archive = write_tar(tmp_path / "x", GOOD, link, first=True)
    unpack.unpack(archive, LAYOUT, staging, "set")
    assert not list(outside.iterdir())
    assert not (staging / "img").is_symlink()
    assert len(tree(staging)) == 3


def test_links_and_devices_that_nobody_wants_are_not_made(tmp_path: Path, staging: Path) -> None:
    extra = [tar_info("top/l", tarfile.SYMTYPE, linkname="/"), tar_info("top/d", tarfile.CHRTYPE)]
    unpack.unpack(write_tar(tmp_path / "x", GOOD, *extra), LAYOUT, staging, "set")
    assert len(tree(staging)) == 3


def test_modes_and_owners_are_not_taken_over(tmp_path: Path, staging: Path) -> None:
    evil = tar_info("top/set/img/s.jpg", mode=0o6777, uid=0, size=3)
    unpack.unpack(write_tar(tmp_path / "x", GOOD, evil), LAYOUT, staging, "set")
    assert (staging / "img/s.jpg").stat().st_mode & 0o7111 == 0


def zip_info(name: str, mode: int = 0, **fields: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.create_system = 3
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_a_link_in_a_zip_is_refused(tmp_path: Path, staging: Path) -> None:
    link = (zip_info("top/set/img/l.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")
    refused(write_zip(tmp_path / "x", GOOD, link), staging, "l.jpg, which is a symbolic link")
    pipe = (zip_info("top/set/img/l.jpg", stat.S_IFIFO), b"")
    refused(write_zip(tmp_path / "x", GOOD, pipe), staging, "no plain file")


def test_other_packings_and_encryption_are_refused(tmp_path: Path, staging: Path) -> None:
    packed = (zip_info("top/set/img/l.jpg", compress_type=zipfile.ZIP_LZMA), b"x")
    refused(write_zip(tmp_path / "x", GOOD, packed), staging, "packed by method 14")
    archive = write_zip(tmp_path / "x", GOOD)
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    refused(archive, staging, "encrypted")


def test_a_zip_that_has_a_name_twice_is_refused(tmp_path: Path, staging: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive = write_zip(tmp_path / "x", GOOD, (zip_info("top/set/img/a.jpg"), b"other"))
    refused(archive, staging, "is in it twice")


# Bombs


def test_an_archive_larger_than_any_dataset_is_refused(tmp_path: Path, staging: Path) -> None:
    noise = random.Random(0).randbytes(1_000_000)
    archive = write_tar(tmp_path / "x", {**GOOD, "top/set/img/c.jpg": noise})
    refused(archive, staging, "unpacks to more than 500 kB", replace(LAYOUT, most_bytes=500_000))
    assert not tree(staging)


def test_a_bomb_is_told_by_what_it_grows_to(tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_HARMLESS", 100_000)
    bomb = {**GOOD, "top/set/img/c.jpg": b"\0" * 5_000_000}
    refused(write_tar(tmp_path / "x", bomb, mode="w:gz"), staging, "unpacks to more than 1")
    refused(write_zip(tmp_path / "x", bomb), staging, "unpacks to more than 1")
    assert not tree(staging)


def test_a_bomb_that_declares_little_is_cut(tmp_path: Path, staging: Path) -> None:
    archive = write_zip(tmp_path / "x", GOOD)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("top/set/img/c.jpg", b"\0" * 5_000_000)
    content = archive.read_bytes()
    lied = content.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 10))
    assert lied != content
    archive.write_bytes(lied)
    refused(archive, staging, "damaged")
    assert sum(map(len, tree(staging).values())) < 2000


def test_more_members_than_any_dataset_are_refused(tmp_path: Path, staging: Path) -> None:
    many = {f"top/set/img/{i}.jpg": b"" for i in range(101)}
    refused(write_tar(tmp_path / "x", {**GOOD, **many}), staging, "more than 100 members")
    refused(write_zip(tmp_path / "x", {**GOOD, **many}), staging, "more than 100 members")


def test_entries_are_counted_before_zipfile_reads_them(
    tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "x", {**GOOD, **{f"{i}": b"" for i in range(1200)}})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    refused(archive, staging, "more than 100 members")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path, staging: Path) -> None:
    archive = write_tar(tmp_path / "x", GOOD, tar_info("long", tarfile.GNUTYPE_LONGNAME, 10**6), first=True)
    refused(archive, staging, "header of more than 65536 bytes")
    archive = write_tar(tmp_path / "x", GOOD, tar_info("pax", tarfile.XHDTYPE, 10**6), first=True)
    refused(archive, staging, "header of more than 65536 bytes")


def test_sparse_maps_without_end_are_not_held_in_memory(tmp_path: Path, staging: Path) -> None:
    tar = write_tar(tmp_path / "x", GOOD).read_bytes()
    header = bytearray(tar_info("sparse", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # another block of the map follows
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = (b"%011o\0%011o\0" % (0, 1) * 21).ljust(504, b"\0") + b"\1".ljust(8, b"\0")
    for before in (b"", tar[:AT]):
        (tmp_path / "x").write_bytes(before + header + more * 1000)
        refused(tmp_path / "x", staging, "header of more than 65536 bytes")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_many_long_headers_are_not_held_in_memory(kind: bytes, tmp_path: Path, staging: Path) -> None:
    record = b"30000 comment=".ljust(29_999, b"x") + b"\n"
    pairs = []
    for i in range(60):
        info = tar_info(f"pax{i}", kind, len(record))
        pairs.append(info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(30_208, b"\0"))
        pairs.append(tar_info(f"{i}").tobuf(tarfile.USTAR_FORMAT))
    (tmp_path / "x").write_bytes(b"".join(pairs) + b"\0" * 1024)
    refused(tmp_path / "x", staging, "bytes of headers for")


def test_usual_long_names_pass(tmp_path: Path, staging: Path) -> None:
    folder = "/".join(["f" * 100] * 5)
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "x", "w:gz", format=format) as tar:
            for i in range(90):
                tar.addfile(tar_info(f"{folder}/img/\u00e4{i}.jpg", mtime=1.5))
            tar.addfile(tar_info(f"{folder}/train.txt"))
        assert len(unpack.unpack(tmp_path / "x", LAYOUT, staging / str(format), "set")) == 91


def test_zeros_without_end_after_the_archive_are_not_read_through(
    tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "_HARMLESS", 10_000)
    tar = write_tar(tmp_path / "t", GOOD).read_bytes()
    (tmp_path / "x").write_bytes(gzip.compress(tar + b"\0" * 5_000_000))
    (tmp_path / "t").unlink()
    refused(tmp_path / "x", staging, "unpacks to more than")


def negative(info: tarfile.TarInfo, size: int) -> bytes:
    """A header whose size is a negative number in base 256, which made older tarfiles go round in circles."""
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" + (2**88 + size).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [-512, -1024, -1536, -(10**6)])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.DIRTYPE])
def test_a_negative_size_leads_nowhere(kind: bytes, size: int, tmp_path: Path, staging: Path) -> None:
    tar = write_tar(tmp_path / "x", GOOD).read_bytes()
    (tmp_path / "x").write_bytes(tar[:AT] + negative(tar_info("top/n", kind), size) + tar[AT:])
    try:
        unpack.unpack(tmp_path / "x", LAYOUT, staging, "set")
    except DatasetError:
        return
    assert kind == tarfile.DIRTYPE  # a folder has no content, whatever its size says
    assert len(tree(staging)) == 3


# Damage


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_an_archive_that_was_cut_off_anywhere_is_told(kind: str, tmp_path: Path, staging: Path) -> None:
    whole = WRITERS[kind](tmp_path).read_bytes()
    # The last blocks of a tar are empty; a cut among them takes nothing away.
    end = len(whole) if kind != "tar" else whole.rindex(b"?") + 512
    for cut in [1, 100, *range(511, end, 97), end - 1]:
        (tmp_path / "x").write_bytes(whole[:cut])
        with pytest.raises(DatasetError):
            unpack.unpack(tmp_path / "x", LAYOUT, staging / str(cut), "set")


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_bit_that_tipped_never_goes_unnoticed(kind: str, tmp_path: Path, staging: Path) -> None:
    whole = WRITERS[kind](tmp_path).read_bytes()
    wanted = unpack.unpack(tmp_path / "x", LAYOUT, staging / "whole", "set")
    rng = random.Random(1)
    told = 0
    for trial in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (tmp_path / "x").write_bytes(damaged)
        try:
            written = unpack.unpack(tmp_path / "x", LAYOUT, staging / str(trial), "set")
        except DatasetError:
            told += 1
        else:
            assert {k: v for k, v in written.items() if k in wanted} == written
            assert all(wanted[k] == v for k, v in written.items())
    assert told > 50


def test_a_damaged_header_within_a_tar_is_not_the_end(tmp_path: Path, staging: Path) -> None:
    content = bytearray(write_tar(tmp_path / "x", GOOD).read_bytes())
    at = content.index(b"top/README")
    content[at] ^= 1
    (tmp_path / "x").write_bytes(content)
    refused(tmp_path / "x", staging, "damaged or cut off")


def test_noise_is_told(tmp_path: Path, staging: Path) -> None:
    rng = random.Random(2)
    for trial in range(30):
        start = rng.choice([b"", b"PK\x03\x04", b"\x1f\x8b\x08"])
        (tmp_path / "x").write_bytes(start + rng.randbytes(rng.randrange(3000)))
        with pytest.raises(DatasetError):
            unpack.unpack(tmp_path / "x", LAYOUT, staging / str(trial), "set")


# What is in it


def test_an_archive_of_something_else_is_told(tmp_path: Path, staging: Path) -> None:
    refused(
        write_tar(tmp_path / "x", {"other/img/a.jpg": b"", "other/cls/a.mat": b""}),
        staging,
        r"no folder of it holds img/\*.jpg and train.txt. It has other/cls/, other/img/. .*--from FILE",
    )


def test_of_several_folders_that_of_the_right_name_is_taken(tmp_path: Path, staging: Path) -> None:
    second = {name.replace("set", "other"): b"other" for name in GOOD}
    unpack.unpack(write_tar(tmp_path / "x", {**second, **GOOD}), LAYOUT, staging, "set")
    assert tree(staging)["img/b.jpg"] == b"b"
    with pytest.raises(DatasetError, match=r"in several folders, top/other/, top/set/: .* --from FOLDER"):
        unpack.unpack(tmp_path / "x", LAYOUT, staging / "again", "neither")


def test_a_disk_that_is_too_small_is_told_before(
    tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    refused(write_tar(tmp_path / "x", GOOD), staging, "unpacking x needs 1.0 kB .*, and 100 bytes are free")
    assert not tree(staging)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, staging: Path) -> None:
    (staging / "img").mkdir(parents=True)
    os.symlink(tmp_path / "outside", staging / "img" / "a.jpg")
    with pytest.raises(FileExistsError):
        unpack.unpack(write_tar(tmp_path / "x", GOOD), LAYOUT, staging, "set")
    assert not (tmp_path / "outside").exists()


def test_links_in_a_persons_own_folder_lead_to_files(tmp_path: Path, staging: Path) -> None:
    folder = write_folder(tmp_path / "x", GOOD)
    (tmp_path / "big.jpg").write_bytes(b"big")
    os.symlink(tmp_path / "big.jpg", folder / "top/set/img/big.jpg")
    unpack.unpack(folder, LAYOUT, staging, "set")
    assert tree(staging)["img/big.jpg"] == b"big"
    os.symlink(tmp_path / "nothing", folder / "top/set/img/lost.jpg")
    refused(folder, staging, "lost.jpg, which is no plain file")


def test_links_to_folders_are_followed_and_not_in_circles(tmp_path: Path, staging: Path) -> None:
    files = write_folder(tmp_path / "disk", {"a.jpg": b"a", "deeper/b.jpg": b"b"})
    folder = write_folder(tmp_path / "x", {"train.txt": b""})
    os.symlink(files, folder / "img")
    os.symlink(folder, files / "back")
    os.symlink(".", folder / "self")
    assert unpack.unpack(folder, LAYOUT, staging, "x").keys() == {"img/a.jpg", "train.txt"}


def test_names_that_differ_in_case_or_in_unicode_only_are_two_files(tmp_path: Path, staging: Path) -> None:
    names = ["A.jpg", "\u00e4.jpg", "a\u0308.jpg"]
    more = {f"top/set/img/{name}": name.encode() for name in names}
    for kind, archive in (
        ("tar", write_tar(tmp_path / "x", GOOD | more)),
        ("zip", write_zip(tmp_path / "y", GOOD | more)),
    ):
        unpack.unpack(archive, LAYOUT, staging / kind, "set")
        for name in names:
            assert (staging / kind / "img" / name).read_bytes() == name.encode()
        assert (staging / kind / "img/a.jpg").read_bytes() == b"a" * 1000


def test_a_zip_whose_two_headers_name_different_files_is_refused(tmp_path: Path, staging: Path) -> None:
    archive = write_zip(tmp_path / "x", GOOD)
    archive.write_bytes(archive.read_bytes().replace(b"img/b.jpg", b"img/z.jpg", 1))
    refused(archive, staging, "damaged")


def test_members_of_a_zip_that_overlap_are_no_way_around_the_limit(
    tmp_path: Path, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "_HARMLESS", 100_000)
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in GOOD.items():
            packed.writestr(name, content)
        packed.writestr("top/set/img/k.jpg", b"\0" * 50_000)
        kernel = packed.getinfo("top/set/img/k.jpg")
        for i in range(60):  # all of the same bytes
            other = zip_info(f"top/set/img/k{i}.jpg")
            for field in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(other, field, getattr(kernel, field))
            packed.filelist.append(other)
    refused(tmp_path / "x", staging, "unpacks to more than 1")


def test_zeros_after_a_tar_are_no_damage_and_other_bytes_after_a_gzip_are(tmp_path: Path, staging: Path) -> None:
    content = write_tar(tmp_path / "x", GOOD, mode="w:gz").read_bytes()
    (tmp_path / "x").write_bytes(content + b"\0" * 1000)
    unpack.unpack(tmp_path / "x", LAYOUT, staging / "zeros", "set")
    (tmp_path / "x").write_bytes(content + b"garbage")
    with pytest.raises(unpack.Unusable, match="damaged"):
        unpack.unpack(tmp_path / "x", LAYOUT, staging / "garbage", "set")
