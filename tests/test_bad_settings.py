"""Wrong settings, on the command line and in files, are refused in one line."""

from pathlib import Path

import pytest
import torch

# The command line, and parts of the message: the setting, its source and the remedy.
LINES = {
    "an unknown model": ("--model resnt20", "--model (command line)", "unknown model 'resnt20'", "resnet20"),
    "an unknown flag": ("--cutuot", "unknown setting 'cutuot'", "did you mean cutout?"),
    "an unknown flag with a value": ("--epoch 3", "unknown setting 'epoch'", "epochs"),
    "an unknown key": ("train.epoch=3", "train.epoch", "no setting 'epoch'", "epochs"),
    "an unknown section": ("trian.epochs=3", "trian.epochs", "unknown setting", "train.epochs"),
    "a key like no other": ("zzz=3", "zzz (command line)", "unknown setting", "--help"),
    "an unknown field of a trick": ("--augment.cutout.sise 3", "cutout has no setting 'sise'", "size"),
    "an unknown dataset": ("--dataset cifar11", "unknown dataset 'cifar11'", "cifar10"),
    "an unknown choice": ("--precision fp17", "--precision", "expected one of fp32, bf16, fp16", "'fp17'"),
    "an unknown optimizer": ("--optim adamv", "unknown optimizer 'adamv'", "adamw"),
    "an unknown optimizer of timm": ("--optim timm/adamww", "timm has no optimizer 'adamww'", "adamw"),
    "an unknown schedule": ("--schedule cosin", "unknown schedule 'cosin'", "cosine"),
    "an unknown loss": ("--loss cros_entropy", "unknown loss", "cross_entropy"),
    "an unknown kind to list": ("--list modles", "modles", "models"),
    "two actions": ("--summary --dry-run", "--summary and --dry-run cannot be combined"),
    "an action and help": ("--list models --help", "--list and --help cannot be combined"),
    "two runs to evaluate": ("--evaluate a --evaluate b", "--evaluate was given twice"),
    "an action with a value": ("--dry-run=True", "--dry-run takes no value"),
    "a smoothing to nothing but noise": ("--label-smoothing 1", "epsilon must be above 0 and below 1, got 1"),
    "a mix by 0": ("--mixup 0", "alpha must be above 0, got 0.0; --no-mixup disables mixup"),
    "a smoothing by 0": ("--label-smoothing 0", "--no-label-smoothing disables label_smoothing"),
    "a word that is no flag": ("resnet20", "'resnet20' is neither a flag nor a key", "--key value"),
    "a flag without its value": ("--epochs", "--epochs needs a value"),
    "text for a number": ("--batch-size many", "--batch-size", "expected a whole number, got 'many'"),
    "a fraction for a count": ("--accumulate 1.5", "--accumulate", "expected a whole number, got '1.5'"),
    "infinity for a number": ("--lr inf", "--lr", "expected a number, got 'inf'"),
    "text for a switch": ("--nesterov=perhaps", "--nesterov", "expected true or false"),
    "a number for a switch": ("--channels-last=7", "--channels-last", "expected true or false"),
    "no for a setting that is no switch": ("--no-epochs", "epochs is not a boolean option"),
    "no epochs": ("--epochs 0", "--epochs (command line)", "epochs must be above 0, got 0.0"),
    "no batch": ("--batch-size 0", "--batch-size", "batch_size must be at least 1, got 0"),
    "a negative seed": ("--seed -1", "--seed", "seed must be at least 0"),
    "a clip of 0": ("--clip 0", "--clip", "clip must be above 0"),
    "more micro-batches than images": ("--accumulate 17", "--accumulate", "from 1 to batch_size, got 17"),
    "too large a fraction": ("--fraction 1.5", "--fraction", "at most 1, got 1.5"),
    "too small a fraction": ("--fraction 0.001", "data: fraction must be large enough"),
    "too large a validation part": ("--val 100", "data: val must be", "got 100"),
    "too small a data set": ("--data.size 4", "dataset synthetic: size must be at least 16, got 4"),
    "a batch larger than the set": ("--batch-size 65", "65 images", "training set of 64", "from 1 to 64"),
    "a cutout without size": ("--cutout-size 0", "--cutout-size", "size must be at least 1, got 0"),
    "a probability above 1": ("--mixup-prob 2", "--mixup-prob", "prob must be above 0 and at most 1"),
    "a crop that its image cannot mirror": (
        "--crop-padding 8 --crop-mode reflect",
        "images of (3, 8, 8)",
        "mode must be zero to move images of 8x8",
    ),
    "an end before the beginning": ("--mixup --mixup-start 1 --mixup-stop 1", "mixup: stop must be above"),
    "a beginning after the end of the run": (
        "--mixup True --mixup-start 2",
        "augmentation mixup: start must be below the run's 2 epochs, got 2",
    ),
    "small images for a model of one size": (
        "--model vit_tiny --progressive-resizing",
        "images of (3, 4, 4) that progressive_resizing makes in epoch 0",
    ),
    "views that an image does not have": ("--tta-ten-crop 8", "view tta_ten_crop", "images of (3, 8, 8)"),
    "views without a shift": ("--tta-shifts 0", "--tta-shifts", "pixels must be at least 1, got 0"),
    "a negative learning rate": ("--lr -1", "--lr (command line)", "must be above 0, got -1"),
    "a momentum of 1": ("--momentum 1", "--momentum (command line)", "must be at least 0 and below 1"),
    "a negative radius": ("--sam-rho -1", "--sam-rho (command line)", "rho must be above 0"),
    "a decay of 1": ("--ema-decay 1", "--ema-decay (command line)", "below 1"),
    "a negative warm-up": ("--warmup -1", "--warmup", "warmup must be at least 0"),
    "a warm-up beyond the budget": ("--warmup 3", "schedule multistep: warmup must be shorter", "2 epochs"),
    "a milestone beyond the budget": (
        "--milestones 1,5",
        "schedule multistep: milestones",
        "within 2 epochs",
    ),
    "a peak beyond the budget": ("--schedule onecycle --peak 3", "schedule onecycle: peak must be within"),
    "a model for larger images": (
        "--model resnet9 --image-size 4",
        "the model cannot take images of (3, 4, 4)",
    ),
    "a micro-batch that BatchNorm cannot take": (
        "--model resnet_preact --batch-size 1 --image-size 4",
        "1 at once",
        "more than 1 value per channel",
    ),
    "a setting of another optimizer": ("--optim adamw --momentum 0.5", "adamw has no setting 'momentum'"),
    "two values for one setting": ("--lr 0.1 optim.lr=0.2", "--lr", "optim.lr", "conflict"),
    "a part of what is switched off": (
        "--no-cutout --cutout-size 8",
        "--no-cutout",
        "--cutout-size",
        "remove one of them",
    ),
    "a proxy that is not known": ("--proxy-model resnt20", "selection proxy: unknown model", "resnet20"),
    "a proxy for larger images": ("--proxy", "selection proxy: model airbench96_proxy: image_size", "got 8"),
    "a proxy that keeps all": ("--proxy-keep 1", "--proxy-keep (command line)", "above 0 and below 1"),
    "a proxy that keeps no image": ("--proxy-keep 0.01", "selection proxy: keep must", "some of 16 images"),
    "a proxy that never learns": ("--proxy-every 0", "--proxy-every (command line)", "at least 1, got 0"),
    "two ways to climb": ("--sam --asam", "asam and sam", "choose one"),
    "legacy statistics of a set without": ("--normalize legacy", "no legacy statistics", "standard"),
    "a device of no kind": ("--device tpux", "'tpux' is none of auto, cpu, cuda"),
    "weights that are nowhere": ("--init-from nowhere.pt", "there is no checkpoint nowhere.pt"),
    "an output folder below a file": ("--output-dir tiny.yaml/run", "cannot write in tiny.yaml/run"),
    "an output folder where none can be": ("--output-dir /proc/run", "cannot write in /proc/run"),
    "an output folder with too long a name": (f"--name {'n' * 300}", "File name too long", "--output-dir"),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_wrong_setting_is_refused_in_one_line(refused, line):
    refused(*line)


# A dry run creates no folder, so it does not find that it cannot.
PLANNED = {
    name: line
    for name, line in LINES.items()
    if not line[0].startswith(("--output-dir", "--name", "--list", "--evaluate", "--summary", "--dry-run"))
}


@pytest.mark.parametrize("line", PLANNED.values(), ids=PLANNED)
def test_a_dry_run_refuses_what_training_refuses(refused, line):
    refused(f"--dry-run {line[0]}", *line[1:])


# Beyond the table: what only a complete build finds, here on the facts of a data set that is not there.
UNBUILDABLE = {
    "a learning rate below 0": ("--lr -0.1", "lr must be above 0"),
    "an average of 1.1": ("--ema-decay 1.1", "decay must be"),
    "an average that starts after the end": ("--swa --swa-start 300", "swa", "start"),
    "a distillation without a teacher": ("--kd", "needs a teacher"),
    "a teacher that is not there": ("--kd --teacher nowhere", "no checkpoint nowhere"),
    "a teacher of nobody": ("--teacher tiny.yaml", "has no effect"),
    "views that the images do not have": ("--tta-ten-crop 40", "view tta_ten_crop"),
    "a batch larger than the set": ("--batch-size 60000", "training set of 50000"),
    "a model for larger images": ("--model vit --model.patch-size 64", "model vit"),
}


@pytest.mark.parametrize("line", UNBUILDABLE.values(), ids=UNBUILDABLE)
def test_a_dry_run_without_data_builds_what_training_builds(refused, line):
    refused(f"--dataset cifar10 --no-data.offline --root nowhere --dry-run {line[0]}", *line[1:])


FILES = {
    "a missing file": (None, "there is no such file"),
    "a missing key": ("trian: {epochs: 3}", "trian.epochs (bad.yaml)", "unknown setting"),
    "an unknown key": ("train: {epoch: 3}", "train.epoch (bad.yaml)", "no setting 'epoch'", "epochs"),
    "a key of two lines": ('"tr\\nain": 3', "(bad.yaml)", "unknown setting"),
    "an unknown trick": ("augment: {cutuot: true}", "augment.cutuot (bad.yaml)", "cutout"),
    "a wrong type": ("train: {epochs: [1, 2]}", "train.epochs (bad.yaml)", "expected a number"),
    "true for a number": ("train: {batch_size: true}", "train.batch_size (bad.yaml)", "a whole number"),
    "no YAML": ("train: {epochs: 3", "--config bad.yaml, line 1"),
    "bytes": ("\0\1\2", "--config bad.yaml"),
    "a value that is none": ("train: {seed: 2001-99-99}", "train.seed (bad.yaml)", "whole number"),
    "a key twice": ("train:\n  epochs: 3\n  epochs: 4\n", "bad.yaml, line 2", "'epochs' was given twice"),
    "a list": ("- train\n- epochs\n", "--config bad.yaml", "key: value, got list"),
    "text": ("train", "--config bad.yaml", "key: value, got str"),
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_a_wrong_file_of_settings_is_refused_in_one_line(refused, text):
    text, *parts = text
    if text is not None:
        Path("bad.yaml").write_text(text)
    refused("--config bad.yaml", *parts)


def test_a_folder_is_no_configuration(refused):
    refused("--config .", "--config .", "Is a directory")


def test_a_file_with_a_similar_name_is_suggested(refused):
    Path("configs").mkdir()
    Path("configs/long.yaml").write_text("")
    refused("--config configs/lang.yaml", "did you mean configs/long.yaml?")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("line", ["--device cuda", "--device cuda:1", "--gpu 0"])
def test_a_gpu_where_there_is_none_is_refused(refused, line):
    refused(line, "this machine has", "use --device")
