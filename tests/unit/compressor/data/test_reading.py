"""Images from files nobody trusts."""

import io
import stat
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.data.images import Images
from compressor.data.reading import read_images
from contract.dataset import DatasetFormat
from contract.failures import (
    ArchiveBomb,
    ClassesMismatch,
    DatasetTooLarge,
    Failure,
    InvalidDataset,
    InvalidImage,
    PickleNotAllowed,
    SingleClass,
    UnsafeArchive,
)
from contract.model import Preprocessing

INPUT = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)


def png(value: int = 0, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def folders(path: Path, *, classes: tuple[str, ...] | None = None) -> Images:
    return read_images(path, DatasetFormat.IMAGE_FOLDER_ZIP, INPUT, classes)


def arrays(path: Path) -> Images:
    return read_images(path, DatasetFormat.NPZ, INPUT, None)


GOOD = {"cat/1.png": png(10), "cat/2.png": png(20), "dog/1.png": png(30)}


def test_class_folders_are_matched_by_name_or_by_order(tmp_path: Path) -> None:
    # Given class folders / When they are read without and with the model's names
    path = zipped(tmp_path / "d.zip", GOOD)
    plain, matched = folders(path), folders(path, classes=("dog", "bird", "cat"))
    # Then the labels follow the order, or the names
    assert (plain.labels.tolist(), plain.class_names) == ([0, 0, 1], ("cat", "dog"))
    assert matched.labels.tolist() == [2, 2, 0]


def test_images_in_no_folder_have_no_labels(tmp_path: Path) -> None:
    # Given images at the top of an archive / When they are read / Then they are there, and nobody knows their classes
    path = zipped(tmp_path / "d.zip", {"2.png": png(20), "1.png": png(10), "README.md": b"x"})
    found = folders(path, classes=("cat", "dog"))
    assert found.pixels[:, 0, 0, 0].tolist() == [10, 20]
    assert not found.labelled


def test_arrays_alone_have_no_labels(tmp_path: Path) -> None:
    # Given an npz file with nothing but images / When it is read / Then they have no labels
    np.savez(tmp_path / "d.npz", x=np.full((4, 8, 8, 3), 128, dtype=np.uint8))
    found = arrays(tmp_path / "d.npz")
    assert (len(found), found.labelled) == (4, False)


@pytest.mark.parametrize("extra", ["__MACOSX/cat/._1.png", "cat/.DS_Store", "README.md", "cat/Thumbs.db", "notes.txt"])
def test_bystanders_are_ignored(tmp_path: Path, extra: str) -> None:
    # Given an archive with what systems leave in it / When it is read / Then the images alone count
    assert len(folders(zipped(tmp_path / "d.zip", GOOD | {extra: b"x"}))) == 3


def test_one_folder_around_the_classes_is_understood(tmp_path: Path) -> None:
    # Given everything in one folder / When it is read / Then the classes are those below it
    inner = {f"train/{name}": content for name, content in GOOD.items()}
    assert folders(zipped(tmp_path / "d.zip", inner)).class_names == ("cat", "dog")


@pytest.mark.parametrize("around", ["", "data/", "data/cifar/train/"])
def test_class_folders_lie_below_folders_that_hold_nothing_else(tmp_path: Path, around: str) -> None:
    # Given class folders, with folders within one of them, in folders that hold nothing else / When they are read
    path = zipped(tmp_path / "d.zip", {f"{around}cat/1.png": png(), f"{around}dog/more/2.png": png()})
    # Then classes are where the folders part
    assert folders(path).class_names == ("cat", "dog")


@pytest.mark.parametrize("around", ["", "data/"])
def test_parts_of_a_dataset_are_no_classes(tmp_path: Path, around: str) -> None:
    # Given images for training and for validation, each in class folders / When they are read as one dataset
    names = [f"{around}{part}/{name}/1.png" for part in ("train", "val") for name in ("cat", "dog")]
    path = zipped(tmp_path / "d.zip", dict.fromkeys(names, png()))
    # Then it is refused, by their names
    with pytest.raises(InvalidDataset, match="holds train and val, with class folders in each"):
        folders(path)


def test_an_image_of_a_kind_that_is_not_taken_is_named_and_not_left_out(tmp_path: Path) -> None:
    # Given a class whose images are of another kind / When they are read / Then no class is lost in silence
    with pytest.raises(InvalidDataset, match=r"b/1\.TIF is an image of a kind that is not taken. These are: .*\.jfif"):
        folders(zipped(tmp_path / "d.zip", {"a/1.png": png(), "b/1.TIF": b"II*", "c/1.jpg": png()}))


def test_names_in_utf_8_are_understood_where_the_archive_does_not_say_so(tmp_path: Path) -> None:
    # Given an archive as `zip` writes it on Linux: names in UTF-8, without the flag that says so
    names = ["cafe\u0301", "人", "国"]
    raw = zipped(tmp_path / "d.zip", {f"{name}/1.png": png(i) for i, name in enumerate(names)}).read_bytes()
    path = tmp_path / "unsaid.zip"
    for header, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = raw.split(header)
        raw = header.join([parts[0], *(p[: at - 4] + b"\0\0" + p[at - 2 :] for p in parts[1:])])
    path.write_bytes(raw)
    # When it is read, without and with the model's names / Then classes have their names, in the same order
    assert folders(path).class_names == ("caf\u00e9", "人", "国")
    model = ("国", "cafe\u0301", "人")
    assert folders(path, classes=model).labels.tolist() == [1, 2, 0]


def test_folders_may_be_parted_as_on_windows(tmp_path: Path) -> None:
    # Given names with backslashes, and a colon within one / When they are read / Then they lie in class folders
    path = zipped(tmp_path / "d.zip", {"cat\\12:30.png": png(), "dog\\1.png": png()})
    images = folders(path)
    assert (images.class_names, images.labels.tolist()) == (("cat", "dog"), [0, 1])


def test_gray_of_sixteen_bits_keeps_its_shades(tmp_path: Path) -> None:
    # Given a ramp over all that sixteen bits hold / When it is read
    ramp, buffer = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8), io.BytesIO()
    Image.fromarray(ramp).save(buffer, format="PNG")
    images = folders(zipped(tmp_path / "d.zip", {"a/1.png": buffer.getvalue(), "b/1.png": png()}))
    # Then it is a ramp over all that eight hold
    found = images.pixels[0, 0].flatten().int()
    assert (int(found.min()), int(found.max())) == (0, 255)
    assert (found.diff() > 2).all()


def test_what_is_no_image_may_be_large(tmp_path: Path) -> None:
    # Given a file beside the images that no image may be as large as / When they are read / Then it does not matter
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1.png", "b/1.png"):
            archive.writestr(name, png())
        archive.writestr("annotations.json", bytes(65 * 1024**2))
    assert len(folders(path)) == 2


def test_damage_within_a_file_is_said(tmp_path: Path) -> None:
    # Given an archive whose packed bytes were damaged / When it is read / Then the file is named
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="BMP")
    path = zipped(tmp_path / "d.zip", {"a/1.bmp": buffer.getvalue(), "b/1.png": png()})
    raw = bytearray(path.read_bytes())
    start = raw.index(b"a/1.bmp") + len("a/1.bmp")
    raw[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(raw))
    with pytest.raises(InvalidDataset, match=r"a/1\.bmp is damaged"):
        folders(path)


def test_preprocessing_is_what_the_contract_says(tmp_path: Path) -> None:
    # Given an image with a light half
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    picture[:, 8:] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    path = zipped(tmp_path / "d.zip", {"a/1.png": buffer.getvalue(), "b/1.png": png()})
    # When it is read for inputs of 8 pixels over a crop of a half
    images = read_images(path, DatasetFormat.IMAGE_FOLDER_ZIP, INPUT.model_copy(update={"crop": 0.5}), None)
    # Then it is the middle of the image, normalized channel by channel
    batch = next(images.batches(2))
    assert torch.equal(images.pixels[0], torch.from_numpy(picture[4:12, 4:12].transpose(2, 0, 1).copy()))
    assert batch.x[0, 0, 0, 0].item() == pytest.approx((0 - 0.5) / 0.25)
    assert batch.x[0, 2, 7, 7].item() == pytest.approx((1 - 0.5) / 0.25)


def link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("cat/1.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return path


def shared_bytes(path: Path) -> Path:
    """Two entries of the directory that name the same bytes (Fifield 2019)."""
    zipped(path, {"a/1.png": png(), "b/1.png": png()})
    raw = path.read_bytes()
    at = raw.rfind(b"PK\x01\x02")
    path.write_bytes(raw[: at + 42] + (0).to_bytes(4, "little") + raw[at + 46 :])
    return path


@pytest.mark.parametrize(
    ("members", "failure"),
    [
        ({"../a/1.png": png()}, UnsafeArchive),
        ({"/a/1.png": png()}, UnsafeArchive),
        ({"a\\..\\..\\1.png": png()}, UnsafeArchive),
        ({"C:/a/1.png": png()}, UnsafeArchive),
        ({"a/1.png": png(), "b/1.png": bytes(90_000_000)}, ArchiveBomb),
        ({"a/1.png": png(), "b/1.png": bytes(30_000_000)}, ArchiveBomb),
        ({"a/1.png": b"no image", "b/1.png": png()}, InvalidImage),
        ({"a/1.png": png()[:40], "b/1.png": png()}, InvalidImage),
        ({"a/1.png": b"%!PS-Adobe-3.0 EPSF-3.0\n", "b/1.png": png()}, InvalidImage),
        ({"a/1.png": png(), "a/2.png": png()}, SingleClass),
        ({}, InvalidDataset),
        ({"readme.txt": b"x"}, InvalidDataset),
        ({"1.png": png(), "a/1.png": png()}, InvalidDataset),
    ],
)
def test_hostile_archives_are_refused_by_name(
    tmp_path: Path, members: dict[str, bytes], failure: type[Failure]
) -> None:
    # Given an archive that nobody should read / When it is read / Then the failure has its name, and tells no path
    with pytest.raises(failure) as caught:
        folders(zipped(tmp_path / "d.zip", members))
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize(("make", "failure"), [(link, UnsafeArchive), (shared_bytes, Failure)])
def test_archives_made_by_hand_are_refused(tmp_path: Path, make: object, failure: type[Failure]) -> None:
    # Given a link, or two files that share their bytes / When they are read / Then they are refused
    with pytest.raises(failure):
        folders(make(tmp_path / "d.zip"))  # type: ignore[operator]


def palette(transparency: bytes) -> bytes:
    """A PNG of few colours, some of which are transparent, as drawing programs write it."""
    image, buffer = Image.new("P", (8, 8), 1), io.BytesIO()
    image.putpalette([0, 0, 0, 250, 100, 0])
    image.save(buffer, format="PNG", transparency=transparency)
    return buffer.getvalue()


def test_an_image_of_which_pillow_warns_is_one_all_the_same(tmp_path: Path) -> None:
    # Given a palette with transparent colours, which Pillow would rather have converted otherwise / When it is read
    images = folders(zipped(tmp_path / "d.zip", {"a/1.png": palette(b"\x00\x80"), "b/1.png": png()}))
    # Then its colours are there
    assert images.pixels[0, :, 0, 0].tolist() == [250, 100, 0]


def test_whoever_reads_with_several_threads_is_warned_as_before(tmp_path: Path) -> None:
    # Given a process that has said how it wants to be warned
    archive = zipped(tmp_path / "d.zip", {f"{name}/{i}.png": png(i) for name in "ab" for i in range(200)})
    before = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=ImportWarning)
        said = list(warnings.filters)
        # When images are read by several threads
        torch.set_num_threads(4)
        try:
            folders(archive)
        finally:
            torch.set_num_threads(before)
        # Then it still is warned so, and by no means stopped
        assert list(warnings.filters) == said


def test_images_of_too_many_pixels_are_refused_unread(tmp_path: Path) -> None:
    # Given a small file that claims 65,000 x 65,000 pixels
    raw = bytearray(png())
    raw[16:24] = (65_000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    # When it is read / Then it is refused
    with pytest.raises(InvalidImage):
        folders(zipped(tmp_path / "d.zip", {"a/1.png": bytes(raw), "b/1.png": png()}))


def test_a_class_that_the_model_does_not_have_is_named(tmp_path: Path) -> None:
    # Given a folder that the model does not name / When it is read / Then it is named
    with pytest.raises(ClassesMismatch, match="'cat'"):
        folders(zipped(tmp_path / "d.zip", GOOD), classes=("dog", "bird"))


@pytest.mark.parametrize("part", range(1, 8))
def test_truncated_archives_are_refused(tmp_path: Path, part: int) -> None:
    # Given an archive that breaks off / When it is read / Then that is a named failure
    raw = zipped(tmp_path / "d.zip", GOOD).read_bytes()
    (tmp_path / "part.zip").write_bytes(raw[: len(raw) * part // 8])
    with pytest.raises(Failure):
        folders(tmp_path / "part.zip")


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 8, 8, 1), (4, 12, 9, 3)])
def test_pixels_go_through_preprocessing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    # Given arrays of pixels / When they are read / Then they are images of the network's size
    np.savez(tmp_path / "d.npz", x=np.full(shape, 128, dtype=np.uint8), y=np.array([0, 1, 0, 1]))
    assert arrays(tmp_path / "d.npz").pixels.shape == (4, 3, 8, 8)


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    # Given inputs in double precision / When they are read / Then they are not normalized again
    np.savez(tmp_path / "d.npz", x=np.full((4, 3, 8, 8), 0.75), y=np.array([0, 1, 0, 1], dtype=np.uint8))
    batch = next(arrays(tmp_path / "d.npz").batches(4))
    assert (batch.x.dtype, float(batch.x.mean()), batch.y.tolist()) == (torch.float32, 0.75, [0, 1, 0, 1])


X, Y = np.zeros((4, 3, 8, 8), dtype=np.float32), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"y": Y}, InvalidDataset),
        ({"x": X, "y": Y[:3]}, InvalidDataset),
        ({"x": X[:, :, :4], "y": Y}, InvalidDataset),
        ({"x": X + np.nan, "y": Y}, InvalidDataset),
        ({"x": X.astype(np.int32), "y": Y}, InvalidDataset),
        ({"x": X, "y": Y + 0.5}, InvalidDataset),
        ({"x": X, "y": np.eye(4)[Y]}, InvalidDataset),
        ({"x": np.array(5), "y": Y}, InvalidDataset),
        ({"x": X, "y": Y - 1}, ClassesMismatch),
        ({"x": X, "y": Y * 2**40}, ClassesMismatch),
        ({"x": X, "y": Y * 0}, SingleClass),
        ({"x": X, "y": np.array([{}] * 4)}, PickleNotAllowed),
        ({"x": X.view([("r", "f4")]), "y": Y}, InvalidDataset),
    ],
)
def test_wrong_arrays_are_refused_by_name(tmp_path: Path, said: dict[str, np.ndarray], failure: type[Failure]) -> None:
    # Given arrays that are no dataset / When they are read / Then the failure has its name
    np.savez(tmp_path / "d.npz", **said)
    with pytest.raises(failure):
        arrays(tmp_path / "d.npz")


@pytest.mark.parametrize(
    "y", [Y[:, None], Y.astype(float), Y.astype(">i2"), Y.astype(bool)], ids=lambda y: str(y.dtype)
)
def test_class_numbers_may_be_kept_as_others_keep_them(tmp_path: Path, y: np.ndarray) -> None:
    # Given numbers in a column, as floats, of another byte order / When they are read / Then they are these numbers
    np.savez(tmp_path / "d.npz", x=X, y=y)
    assert arrays(tmp_path / "d.npz").labels.tolist() == y.flatten().astype(int).tolist()


def test_one_number_for_each_class_says_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=np.eye(4)[Y])
    with pytest.raises(InvalidDataset, match=r"float64 of shape \[4, 4\]. Of one number for each class, give y.argm"):
        arrays(tmp_path / "d.npz")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': ((",
        b"-" * 9000,
        b"{'descr':'|u1','fortran_order':False,'shape':(True,8)}",
    ],
    ids=["breaks off", "nested", "a truth"],
)
def test_broken_headers_are_no_datasets(tmp_path: Path, header: bytes) -> None:
    # Given an array with a header that nobody wrote on purpose / When it is read / Then it is said to be unreadable
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InvalidDataset):
        arrays(tmp_path / "d.npz")


def test_an_array_that_claims_too_much_takes_no_memory(tmp_path: Path) -> None:
    # Given a header of 4 TiB before a few bytes
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4398046511104,), }"
    padded = head + b" " * (117 - len(head)) + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded
    # When it is read / Then it is refused
    with pytest.raises(DatasetTooLarge):
        arrays(zipped(tmp_path / "d.npz", {"x.npy": member, "y.npy": member}))


def test_chance_is_a_function_of_seed_epoch_and_image() -> None:
    # Given images of which every one is different
    pixels = torch.arange(8 * 3 * 8 * 8, dtype=torch.int64).remainder(256).to(torch.uint8).view(8, 3, 8, 8)
    images = Images(pixels, torch.arange(8) % 2, INPUT)

    def drawn(seed: int, epoch: int) -> dict[int, torch.Tensor]:
        batches = images.batches(3, seed=seed, epoch=epoch, augment="crop_flip")
        return {int(i): x for batch in batches for i, x in zip(batch.index, batch.x, strict=True)}

    # When an epoch is drawn twice, and another one
    first, again, other = drawn(1, 4), drawn(1, 4), drawn(1, 5)
    # Then every image is there, changed the same way for the same epoch, and another way for another
    assert set(first) == set(range(8))
    assert list(first) == list(again)
    assert all(torch.equal(first[i], again[i]) for i in first)
    assert list(first) != list(other)
    assert not all(torch.equal(first[i], other[i]) for i in first)
