"""Missing and damaged data sets are refused in one line."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

import lib.data.cifar


@pytest.fixture
def dead(monkeypatch):
    """Give CIFAR-10 mirrors that do not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    urls = tuple(f"http://127.0.0.1:{port}/{n}/cifar-10-binary.tar.gz" for n in (1, 2))
    monkeypatch.setattr(lib.data.cifar, "CIFAR10", replace(lib.data.cifar.CIFAR10, urls=urls))


def test_missing_data_are_refused_offline(refused, tmp_path):
    line = f"--dataset cifar10 --offline --root {tmp_path}/data"
    refused(line, "cifar-10-binary.tar.gz", f"{tmp_path}/data", "--offline", "--dataset digits")


def test_missing_data_are_refused_if_no_mirror_answers(refused, dead, tmp_path):
    line = f"--dataset cifar10 --root {tmp_path}/data"
    refused(line, "no mirror has it", "Connection refused", "--dataset digits")


def test_a_root_below_a_file_is_refused(refused, dead):
    refused("--dataset cifar10 --root tiny.yaml/data", "cannot write tiny.yaml/data", "--root")


def records(count: int, label: int) -> None:
    """Write the first file of CIFAR-10, with `count` black images of this class."""
    folder = Path("data/cifar-10-batches-bin")
    folder.mkdir(parents=True)
    with open(folder / "data_batch_1.bin", "wb") as file:
        file.write(bytes([label]))
        file.truncate(count * 3073)


def test_a_truncated_data_file_is_refused(refused):
    records(count=9_999, label=3)
    refused("--dataset cifar10 --root data", "data_batch_1.bin is damaged", "30730000 bytes", "delete data/")


def test_a_data_file_with_an_impossible_class_is_refused(refused):
    records(count=10_000, label=200)
    refused("--dataset cifar10 --root data", "data_batch_1.bin is damaged", "classes below 10", "[200]")


def test_an_archive_with_another_md5_is_refused(refused):
    Path("data").mkdir()
    Path("data/cifar-10-binary.tar.gz").write_bytes(b"<html>404</html>")
    refused("--dataset cifar10 --root data", "is damaged", "md5", "delete data/cifar-10-binary.tar.gz")
