"""Published data sets from small files in their real layouts, which a local server sends."""

import hashlib
import io
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.core.errors import BadInput
from lib.core.registry import datasets
from lib.data import cifar_c, cifar_variants, image_archives, stl10
from lib.data.cifar import CIFAR10, CIFAR100

RANDOM = np.random.default_rng(0)


def digest(data: bytes, kind: str = "md5") -> str:
    return hashlib.new(kind, data).hexdigest()


@pytest.fixture
def server(tmp_path):
    """A folder of files, and the address at which they are served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield folder, f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return whole.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def image(level: int, size: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (level, level, level)).save(file, kind)
    return file.getvalue()


def serve(archive, data: bytes, server):
    """The archive, with these bytes, from the local server."""
    folder, url = server
    (folder / archive.name).write_bytes(data)
    return replace(archive, digest=digest(data), urls=(f"{url}/{archive.name}",))


def unpacked(root: Path, folder: str, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / folder / name.removeprefix(f"{folder}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def build(name: str, root: Path, offline: bool = False, **options):
    return datasets[name].build(root=root, offline=offline, **options)


TINY_FILES = {
    "tiny-imagenet-200/wnids.txt": b"n02\nn01\nn03\n",
    "tiny-imagenet-200/words.txt": b"n01\tgoldfish, fish\nn02\tcrane\nn03\tcrane\nn09\tno class\n",
    "tiny-imagenet-200/val/val_annotations.txt": b"val_1.JPEG\tn01\t0\t0\t9\nval_0.JPEG\tn03\t0\t0\t9\n",
    "tiny-imagenet-200/train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t0\t9\t9\n",
    "tiny-imagenet-200/test/images/test_0.JPEG": image(9, 64, "jpeg"),
    **{f"tiny-imagenet-200/train/n0{k}/images/n0{k}_{i}.JPEG": image(50 * k + i, 64, "jpeg")
       for k in (3, 1, 2) for i in (1, 0)},
    **{f"tiny-imagenet-200/val/images/val_{i}.JPEG": image(200 + i, 64, "jpeg") for i in (0, 1)},
}  # fmt: skip


@pytest.fixture
def tiny_imagenet(monkeypatch, server):
    archive = serve(image_archives.TINY, zipped(TINY_FILES), server)
    layout = replace(image_archives.TINY_LAYOUT, archive=archive, parts={"train": 6, "val": 2})
    monkeypatch.setattr(image_archives, "TINY", archive)
    monkeypatch.setattr(image_archives, "TINY_LAYOUT", layout)


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_tiny_imagenet_has_its_validation_images_as_test_set(tmp_path, tiny_imagenet, form):
    if form == "folder":
        unpacked(tmp_path, "tiny-imagenet-200", TINY_FILES)
    for offline in (False, True):  # the second time from the cache
        data = build("tiny_imagenet", tmp_path, offline or form == "folder")
        assert data.classes == ("goldfish", "crane n02", "crane n03")
        assert data.train.x.shape == (6, 3, 64, 64)
        assert data.train.y.tolist() == [0, 0, 1, 1, 2, 2] and data.test.y.tolist() == [2, 0]
        levels = data.train.x.float().mean((1, 2, 3)), data.test.x.float().mean((1, 2, 3))
        torch.testing.assert_close(torch.cat(levels), torch.tensor([50.0, 51, 100, 101, 150, 151, 200, 201]), atol=2, rtol=0)  # fmt: skip # noqa: E501


def test_a_damaged_archive_of_images_is_refused_with_both_digests(tmp_path, tiny_imagenet):
    data = zipped(TINY_FILES)
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(data[:500] + b"!" + data[501:])
    with pytest.raises(BadInput, match=r"tiny-imagenet-200.zip is damaged.*md5 .*delete.*--root"):
        build("tiny_imagenet", tmp_path)


def test_an_unpacked_archive_with_missing_images_is_refused(tmp_path, tiny_imagenet):
    unpacked(tmp_path, "tiny-imagenet-200", dict(list(TINY_FILES.items())[:-3]))
    with pytest.raises(BadInput, match="expected 6 images of train, found 5"):
        build("tiny_imagenet", tmp_path)


@pytest.mark.parametrize("name", [name for name in TINY_FILES if name.endswith(("wnids.txt", "words.txt", "ons.txt"))])  # fmt: skip # noqa: E501
def test_an_unpacked_archive_without_its_texts_is_refused(tmp_path, tiny_imagenet, name):
    unpacked(tmp_path, "tiny-imagenet-200", {key: data for key, data in TINY_FILES.items() if key != name})
    with pytest.raises(BadInput, match=r"tiny-imagenet-200 is damaged: expected .*--root"):
        build("tiny_imagenet", tmp_path)


def test_cinic10_has_the_classes_of_cifar10(tmp_path, monkeypatch, server):
    files = {f"./{part}/{name}/{k}-{i}.png": image(10 * k + i, 32, "png")
             for part in ("valid", "train", "test") for k, name in enumerate(CIFAR10.classes) for i in (1, 0)}  # fmt: skip # noqa: E501
    archive = serve(image_archives.CINIC, tar({"./README.md": b"cinic", **files}), server)
    layout = replace(
        image_archives.CINIC_LAYOUT, archive=archive, parts={"train": 20, "test": 20, "valid": 20}
    )
    monkeypatch.setattr(image_archives, "CINIC_LAYOUT", layout)
    data = build("cinic10", tmp_path)
    assert data.classes == CIFAR10.classes
    for split in (data.train, data.test, data.val):
        assert split.y.tolist() == [k for k in range(10) for _ in range(2)]
        assert split.x[:, 1, 5, 7].tolist() == [10 * k + i for k in range(10) for i in range(2)]


def test_stl10_is_read_column_by_column_and_has_its_ten_folds(tmp_path, monkeypatch, server):
    vision = pytest.importorskip("torchvision.datasets")
    pixels = {
        part: RANDOM.integers(0, 256, (n, 3, 96, 96), np.uint8) for part, n in (("train", 20), ("test", 4))
    }
    files = {f"{part}_X.bin": x.tobytes() for part, x in pixels.items()}
    files |= {"train_y.bin": bytes([*range(1, 11)] * 2), "test_y.bin": bytes([10, 1, 2, 3])}
    files["fold_indices.txt"] = "".join(f"{i} {i + 10} \n" for i in range(10)).encode()
    files["unlabeled_X.bin"] = bytes(27_648)
    whole = {f"stl10_binary/{name}": data for name, data in files.items()}
    monkeypatch.setattr(stl10, "ARCHIVE", serve(stl10.ARCHIVE, tar(whole), server))
    monkeypatch.setattr(stl10, "FILES", {name: digest(files[name]) for name in stl10.FILES})
    data = build("stl10", tmp_path)
    unpacked(tmp_path / "torchvision", "stl10_binary", whole)
    monkeypatch.setattr(vision.STL10, "_check_integrity", lambda self: True)
    for split, part in ((data.train, "train"), (data.test, "test")):
        known = vision.STL10(tmp_path / "torchvision", split=part)
        assert np.array_equal(split.x.numpy(), known.data) and split.y.tolist() == known.labels.tolist()
    third = build("stl10", tmp_path, fold=3).train
    assert third.y.tolist() == [3, 3] and torch.equal(third.x, data.train.x[[3, 13]])


def test_stl10_with_a_changed_file_is_refused(tmp_path, monkeypatch):
    files = dict.fromkeys(stl10.FILES, b"changed")
    unpacked(tmp_path, "stl10_binary", files)
    with pytest.raises(BadInput, match=r"_[Xy].bin is damaged: expected md5"):
        build("stl10", tmp_path)


def test_stl10_without_a_file_is_refused(tmp_path):
    unpacked(tmp_path, "stl10_binary", {"fold_indices.txt": b"1 2\n"})
    with pytest.raises(BadInput, match=r"expected all files of STL-10, found no test_X.bin"):
        build("stl10", tmp_path)


@pytest.mark.parametrize(("name", "version"), [("cifar10.1", "v6"), ("cifar10.1_v4", "v4")])
def test_cifar10_1_is_a_test_set_only(tmp_path, monkeypatch, server, name, version):
    x, y = RANDOM.integers(0, 256, (7, 32, 32, 3), np.uint8), np.arange(7, dtype=np.int32)
    digests = []
    for part, array in (("data", x), ("labels", y)):
        (server[0] / f"cifar10.1_{version}_{part}.npy").write_bytes(npy(array))
        digests.append(digest(npy(array), "sha256"))
    monkeypatch.setattr(cifar_variants, "CIFAR10_1_URL", server[1])
    monkeypatch.setitem(cifar_variants.CIFAR10_1, version, tuple(digests))
    data = build(name, tmp_path)
    assert len(data.train) == 0 and data.test.y.tolist() == list(range(7))
    assert np.array_equal(data.test.x.permute(0, 2, 3, 1).numpy(), x)


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_cifar_c_has_five_severities_of_each_corruption(tmp_path, monkeypatch, server, form):
    x, y = RANDOM.integers(0, 256, (10, 32, 32, 3), np.uint8), np.arange(10, dtype=np.uint8) % 2
    files = {"CIFAR-10-C/fog.npy": npy(x), "CIFAR-10-C/labels.npy": npy(y)}
    archive = serve(cifar_c.CIFAR10_C.archive, tar(files, "w"), server)
    found = replace(cifar_c.CIFAR10_C, archive=archive, labels=digest(npy(y)), files={"fog": digest(npy(x))})
    monkeypatch.setattr(cifar_c, "CIFAR10_C", found)
    if form == "folder":
        unpacked(tmp_path, "CIFAR-10-C", files)
    data = build("cifar10-c", tmp_path, form == "folder", corruption="fog")
    assert np.array_equal(data.test.x.permute(0, 2, 3, 1).numpy(), x) and data.test.y.tolist() == [0, 1] * 5
    place = archive.place(tmp_path, offline=True)
    with pytest.raises(BadInput, match=r"fog.npy is damaged: expected md5 0+"):
        archive.read(place, "fog.npy", "0" * 32)
    with pytest.raises(BadInput, match=r"has no rain.npy"):
        archive.read(place, "rain.npy", "0" * 32)


@pytest.mark.parametrize("name", ["cifar10_c", "cifar100_c"])
def test_an_unknown_corruption_is_refused_by_name(name, tmp_path):
    with pytest.raises(ValueError, match=r"corruption must be one of brightness, .*, got 'fogg'"):
        datasets[name].build(root=tmp_path, offline=True, corruption="fogg")


@pytest.fixture
def cifar10(tmp_path):
    """CIFAR-10 in its records, all pixels 0, and the training labels."""
    y = np.arange(60_000) % 10
    records = np.zeros((60_000, 3_073), np.uint8)
    records[:, 0] = y
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    files = {name: part.tobytes() for name, part in zip(names, records.reshape(6, -1), strict=True)}
    unpacked(tmp_path, "cifar-10-batches-bin", files)
    return y[:50_000]


def old(data: bytes) -> bytes:
    """A file of torch.save with the module names of NumPy 1, in which CIFAR-N is published."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as new, zipfile.ZipFile(found, "w") as archive:
        for name in new.namelist():
            archive.writestr(name, new.read(name).replace(b"numpy._core", b"numpy.core"))
    return found.getvalue()


def test_cifar10n_has_human_training_labels_and_cifar10s_test_labels(tmp_path, monkeypatch, server, cifar10):
    labels = {key: (cifar10 + n) % 10 for n, key in enumerate(cifar_variants.LABELS.values())}
    file = io.BytesIO()
    torch.save({"clean_label": cifar10, **labels}, file)
    data = old(file.getvalue())
    (server[0] / "CIFAR-10_human.pt").write_bytes(data)
    monkeypatch.setattr(cifar_variants, "HUMAN_URL", server[1])
    monkeypatch.setitem(cifar_variants.HUMAN_SHA256, "CIFAR-10_human.pt", digest(data, "sha256"))
    for n, name in enumerate(cifar_variants.LABELS):
        found = build("cifar10n", tmp_path, labels=name)
        assert np.array_equal(found.train.y.numpy(), (cifar10 + n) % 10)
        assert found.test.y.tolist() == list(range(10)) * 1_000


def test_cifar10n_of_another_order_of_images_is_refused(tmp_path, monkeypatch, cifar10):
    file = io.BytesIO()
    torch.save({"clean_label": cifar10[::-1].copy(), "worse_label": cifar10}, file)
    (tmp_path / "CIFAR-10_human.pt").write_bytes(file.getvalue())
    wanted = digest(file.getvalue(), "sha256")
    monkeypatch.setitem(cifar_variants.HUMAN_SHA256, "CIFAR-10_human.pt", wanted)
    with pytest.raises(BadInput, match="the labels of CIFAR as clean_label"):
        build("cifar10n", tmp_path)


def test_code_in_a_file_of_human_labels_never_runs(tmp_path, monkeypatch, cifar10):
    class Planted:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    file = io.BytesIO()
    torch.save({"clean_label": cifar10, "worse_label": Planted()}, file)
    (tmp_path / "CIFAR-10_human.pt").write_bytes(file.getvalue())
    wanted = digest(file.getvalue(), "sha256")
    monkeypatch.setitem(cifar_variants.HUMAN_SHA256, "CIFAR-10_human.pt", wanted)
    with pytest.raises(BadInput, match="expected arrays of labels"):
        build("cifar10n", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_cifar10h_has_the_probabilities_of_people_as_targets(tmp_path, monkeypatch, server, cifar10):
    soft = RANDOM.dirichlet(np.ones(10), 10_000)
    (server[0] / "cifar10h-probs.npy").write_bytes(npy(soft))
    monkeypatch.setattr(cifar_variants, "CIFAR10H_URL", f"{server[1]}/cifar10h-probs.npy")
    monkeypatch.setattr(cifar_variants, "CIFAR10H_MD5", digest(npy(soft)))
    data, swapped = build("cifar10h", tmp_path), build("cifar10h", tmp_path, swap=True)
    assert (len(data.train), len(data.test), len(swapped.train)) == (50_000, 10_000, 10_000)
    np.testing.assert_allclose(data.test.soft.numpy(), soft, rtol=1e-6)
    from lib.data.resident import Resident

    batch = Resident(swapped.train, 10, 100, seed=0).at(3)
    np.testing.assert_allclose(batch.y.numpy(), soft[batch.index.numpy()], rtol=1e-6)


def test_coarse_labels_of_cifar100_are_the_first_byte_of_a_record(tmp_path):
    records = np.zeros((60_000, 3_074), np.uint8)
    records[:, 0], records[:, 1] = np.arange(60_000) % 20, np.arange(60_000) % 100
    files = {"train.bin": records[:50_000].tobytes(), "test.bin": records[50_000:].tobytes()}
    unpacked(tmp_path, "cifar-100-binary", files)
    coarse = build("cifar100_coarse", tmp_path)
    assert coarse.train.y[:25].tolist() == [*range(20), *range(5)]
    assert len(coarse.classes) == 20 and coarse.classes[0] == "aquatic_mammals"
    assert CIFAR100.level == -1
