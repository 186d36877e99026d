"""The settings of other projects: each works here, or is refused in one line that says what to write.

The flags with a value each are those of the programs named; what they mean here was worked out by hand.
"""

import contextlib
import shlex

import pytest

from lib.config import habits
from lib.config.cli import parse
from lib.config.habits.tables import PROJECTS
from lib.config.schema import SECTIONS, Config
from lib.config.spelling import path_of
from lib.core.errors import BadInput

TIMM = """
--data-dir data|--dataset torch/cifar10|-d torch/cifar100|--train-split train|--val-split validation
--dataset-download|--class-map classes.txt|--model vit_tiny|--pretrained|--initial-checkpoint a.pt
--resume last.pt|--no-resume-opt|--num-classes 10|--gp avg|--img-size 32|--in-chans 3|--input-size 3 32 32
--crop-pct 0.875|--mean 0.5 0.5 0.5|--std 0.2 0.2 0.2|--interpolation bicubic|-b 64|--batch-size 64|-vb 64
--validation-batch-size 64|--channels-last|--fuser te|--grad-checkpointing|--grad-accum-steps 2
--torchscript|--torchcompile|--opt adamw|--opt-eps 1e-6|--opt-betas 0.9 0.98|--momentum 0.9
--weight-decay 5e-4|--clip-grad 1|--clip-mode norm|--layer-decay 0.75|--sched cosine|--lr 0.1|--lr-base 0.1
--lr-base-size 256|--lr-base-scale linear|--lr-noise 0.4 0.9|--lr-noise-pct 0.67|--lr-noise-std 1
--lr-cycle-mul 1.5|--lr-cycle-decay 0.5|--lr-cycle-limit 2|--lr-k-decay 2|--warmup-lr 1e-5|--min-lr 1e-5
--epochs 30|--epoch-repeats 2|--start-epoch 5|--decay-milestones 10 20|--decay-epochs 10|--warmup-epochs 5
--warmup-prefix|--cooldown-epochs 10|--patience-epochs 10|--decay-rate 0.1|--dr 0.1|--no-aug
--train-crop-mode rrc|--scale 0.5 1|--ratio 0.75 1.3333|--hflip 0.5|--vflip 0.1|--color-jitter 0.4
--aa rand-m9-mstd0.5-inc1|--aug-repeats 3|--aug-splits 3|--jsd-loss|--bce-loss|--bce-target-thresh 0.2
--reprob 0.25|--remode pixel|--recount 1|--resplit|--mixup 0.2|--cutmix 1.0|--cutmix-minmax 0.2 0.8
--mixup-prob 0.5|--mixup-switch-prob 0.5|--mixup-mode batch|--mixup-off-epoch 20|--smoothing 0.1
--train-interpolation random|--drop 0.1|--drop-connect 0.1|--drop-path 0.1|--drop-block 0.1
--bn-momentum 0.1|--bn-eps 1e-3|--sync-bn|--dist-bn reduce|--split-bn|--model-ema|--model-ema-force-cpu
--model-ema-decay 0.9998|--model-ema-warmup|--seed 42|--worker-seeding all|--log-interval 50
--recovery-interval 0|--checkpoint-hist 10|-j 4|--workers 4|--save-images|--amp|--amp-dtype bfloat16
--amp-impl native|--apex-amp|--native-amp|--no-ddp-bb|--pin-mem|--no-prefetcher|--output out
--experiment first|--eval-metric top1|--tta 2|--local_rank 0|--use-multi-epochs-loader|--log-wandb
"""
HUB = """
--model WideResNet|--name gpu0|--gpu 0|--dataset cifar10|--root data|--fast True|--bs 64|--seed 666|--nw 4
--half True|--geno SPP1|--epochs 20|--lr 0.1|--learning-rate 0.1|--optims sgd|--optims nesterov
--optims adam|--optims adabound|--optims adaboundw|--optims sam|--optims asam|--optims adamw|--sched warmup
--sched multistep|--sched cosine|--sched warmcosine|--sched custom|--crit ce|--crit lsr|--smooth_factor 0.2
--milestones 60,120|--gamma 0.5|--momentum 0.9|--weight-decay 5e-4|--nesterov True|--amp True
--gradient_clip 2.0|--ricap True|--ricap-beta 0.3|--random-erase True|--random-erase-prob 0.2
--random-erase-sl 0.02|--random-erase-sh 0.4|--random-erase-r 0.3|--autoaugmentation True|--cutout True
--mixup True|--mixup-alpha 1.0|--cutmix True|--cutmix_prob 0.5|--beta 1.0
"""
HYSTS = """
device cuda|cudnn.benchmark True|cudnn.deterministic True|dataset.name CIFAR10|dataset.dataset_dir data
dataset.image_size 32|dataset.n_channels 3|dataset.n_classes 10|model.type cifar|model.name resnet_preact
model.init_mode kaiming_fan_out|model.vgg.n_channels "[64, 128]"|model.vgg.n_layers "[2, 2]"
model.vgg.use_bn True|model.resnet.depth 110|model.resnet.n_blocks "[2, 2]"|model.resnet.block_type basic
model.resnet.initial_channels 16|model.resnet_preact.depth 110|model.resnet_preact.n_blocks "[2, 2]"
model.resnet_preact.block_type basic|model.resnet_preact.initial_channels 16
model.resnet_preact.remove_first_relu False|model.resnet_preact.add_last_bn False
model.resnet_preact.preact_stage "[True, True, True]"|model.wrn.depth 28|model.wrn.initial_channels 16
model.wrn.widening_factor 10|model.wrn.drop_rate 0.1|model.densenet.depth 100
model.densenet.n_blocks "[6, 12]"|model.densenet.block_type bottleneck|model.densenet.growth_rate 12
model.densenet.drop_rate 0.1|model.densenet.compression_rate 0.5|model.pyramidnet.depth 272
model.pyramidnet.n_blocks "[3, 24]"|model.pyramidnet.initial_channels 16
model.pyramidnet.block_type bottleneck|model.pyramidnet.alpha 200|model.resnext.depth 29
model.resnext.n_blocks "[3, 4]"|model.resnext.initial_channels 64|model.resnext.cardinality 8
model.resnext.base_channels 4|model.shake_shake.depth 26|model.shake_shake.initial_channels 96
model.shake_shake.shake_forward True|model.shake_shake.shake_backward True
model.shake_shake.shake_image True|model.se_resnet_preact.depth 110
model.se_resnet_preact.initial_channels 16|model.se_resnet_preact.se_reduction 16
model.se_resnet_preact.block_type basic|model.se_resnet_preact.remove_first_relu False
model.se_resnet_preact.add_last_bn False|model.se_resnet_preact.preact_stage "[True, True, True]"
train.checkpoint a.pt|train.resume True|train.precision O1|train.batch_size 128|train.subdivision 2
train.optimizer sgd|train.base_lr 0.1|train.momentum 0.9|train.nesterov True|train.weight_decay 1e-4
train.no_weight_decay_on_bn True|train.gradient_clip 2|train.start_epoch 0|train.seed 1|train.val_first True
train.val_period 2|train.val_ratio 0.1|train.use_test_as_val True|train.output_dir out|train.log_period 100
train.checkpoint_period 10|train.use_tensorboard True|tensorboard.train_images True
tensorboard.val_images True|tensorboard.model_params True|optim.adam.betas "(0.9, 0.99)"|optim.lars.eps 1e-9
optim.lars.threshold 1e-2|optim.adabound.betas "(0.9, 0.99)"|optim.adabound.final_lr 0.1
optim.adabound.gamma 1e-3|scheduler.epochs 160|scheduler.warmup.type linear|scheduler.warmup.epochs 5
scheduler.warmup.start_factor 1e-3|scheduler.warmup.exponent 4|scheduler.type cosine
scheduler.milestones "[80, 120]"|scheduler.lr_decay 0.1|scheduler.lr_min_factor 0.001|scheduler.T0 10
scheduler.T_mul 1.|train.dataloader.num_workers 2|train.dataloader.drop_last True
train.dataloader.pin_memory False|train.dataloader.non_blocking False|validation.batch_size 256
validation.dataloader.num_workers 2|validation.dataloader.drop_last False
validation.dataloader.pin_memory False|validation.dataloader.non_blocking False|train.distributed False
train.dist.backend nccl|train.dist.init_method env://|train.dist.world_size 2|train.dist.node_rank 1
train.dist.local_rank 1|train.dist.use_sync_bn True|augmentation.use_random_crop True
augmentation.use_random_horizontal_flip True|augmentation.use_cutout True
augmentation.use_random_erasing True|augmentation.use_dual_cutout True|augmentation.use_mixup True
augmentation.use_ricap True|augmentation.use_cutmix True|augmentation.use_label_smoothing True
augmentation.random_crop.padding 4|augmentation.random_crop.fill 0
augmentation.random_crop.padding_mode reflect|augmentation.random_horizontal_flip.prob 0.5
augmentation.cutout.prob 1.0|augmentation.cutout.mask_size 16|augmentation.cutout.cut_inside False
augmentation.cutout.mask_color 0|augmentation.cutout.dual_cutout_alpha 0.1
augmentation.random_erasing.prob 0.5|augmentation.random_erasing.area_ratio_range "[0.02, 0.4]"
augmentation.random_erasing.min_aspect_ratio 0.3|augmentation.random_erasing.max_attempt 20
augmentation.mixup.alpha 1.0|augmentation.ricap.beta 0.3|augmentation.cutmix.alpha 1.0
augmentation.label_smoothing.epsilon 0.1|tta.use_resize True|tta.use_center_crop True|tta.resize 256
test.checkpoint a.pt|test.output_dir out|test.batch_size 256|test.dataloader.num_workers 2
test.dataloader.pin_memory False
"""
OTHERS = """
-net vgg16|-gpu|-b 128|-warm 1|-lr 0.1|-seed 0|-resume|--lr 0.1|--resume|-r|--max_epochs 10
--gradient_clip_val 0.5|--gradient_clip_algorithm norm|--accumulate_grad_batches 4|--precision 16-mixed
--precision bf16-mixed|--precision 32-true|--precision 64|--devices 1|--devices 2|--accelerator gpu
--accelerator cpu|--strategy ddp|--num_nodes 2|--deterministic|--limit_train_batches 0.1
--limit_val_batches 0.1|--limit_test_batches 0.1|--val_check_interval 0.5|--check_val_every_n_epoch 2
--fast_dev_run|--overfit_batches 1|--max_steps 100|--max_time 1|--log_every_n_steps 50
--enable_progress_bar True|--enable_checkpointing True|--enable_model_summary True|--num_sanity_val_steps 2
--benchmark True|--sync_batchnorm True|--profiler simple|--detect_anomaly|--default_root_dir out
--logger True|--ckpt_path a.pt
"""
FLAGS = [
    line.strip()
    for table in (TIMM, HUB, HYSTS, OTHERS)
    for row in table.strip().splitlines()
    for line in row.split("|")
]

# A command with settings of other projects, and with ours.
SAME = {
    "--opt adamw --opt-betas .9 .98 --opt-eps 1e-6": "--optim adamw --betas .9,.98 --eps 1e-6",
    "--opt sgd": "--nesterov",  # of timm
    "--opt momentum": "--no-nesterov",
    "--opt nadam": "--optim timm/nadam",
    "--opt lookahead_adamw": "--optim adamw --lookahead",
    "--sched step --decay-epochs 30 --decay-rate 0.1": "--schedule step --period 30 --schedule.gamma 0.1",
    "--sched multistep --decay-milestones 30 60": "--milestones 30,60",
    "--milestones 30 60": "--milestones 30,60",
    "--sched cosine --decay-epochs 30 --decay-rate 0.1": "--schedule cosine",  # of step alone, as in timm
    "--sched cosine --lr 0.5 --min-lr 1e-3": "--schedule cosine --lr 0.5 --schedule.end 0.002",
    "--sched cosine --lr-base 0.1 -b 512 --min-lr 0.02": (
        "--schedule cosine --lr .2 --batch-size 512 --schedule.end .1"
    ),
    "--opt adamw --lr-base 1e-3 -b 1024": "--optim adamw --lr 2e-3 --batch-size 1024",  # by the root
    "--lr 0.1 --warmup-epochs 5 --warmup-lr 1e-3": (
        "--lr .1 --warmup 5 --warmup-start .01 --warmup-clock shared"
    ),
    "--sched cosine --warmup-epochs 5 --warmup-prefix": "--schedule cosine --warmup 5 --warmup-clock delayed",
    "--aa rand-m7-n3-inc1": "--randaugment-magnitude 7 --randaugment-num-ops 3",
    "--aa original": "--autoaugment imagenet",
    "--reprob 0.25 --remode rand": "--random-erasing 0.25 --random-erasing-fill channel",
    "--reprob 0 --smoothing 0.": "--no-random-erasing --no-label-smoothing",
    "--smoothing 0.2": "--label-smoothing 0.2",
    "--mixup .2 --cutmix 1. --mixup-off-epoch 9": "--mixup .2 --cutmix 1. --mixup-stop 9 --cutmix-stop 9",
    "--mixup 1 --mixup-mode elem": "--mixup 1 --mixup-per-sample",
    "--model-ema --model-ema-decay 0.99": "--ema --ema-decay 0.99",
    "--amp": "--precision fp16",
    "--amp --amp-dtype bfloat16": "--precision bf16",
    "--model vit_tiny --drop-path 0.1 --drop 0.2": "--model vit_tiny --model.drop-path .1 --model.dropout .2",
    "--model timm/resnet18 --drop-path 0.1": "--model timm/resnet18 --model.drop-path-rate .1",
    "-b 64 -j 4 --clip-grad 1 --output out": "--batch-size 64 --clip 1 --output-dir out",
    "--dataset torch/cifar100 --num-classes 100": "--dataset cifar100",
    "--dataset folder:x --input-size 3 64 64 --workers 3": (
        "--dataset folder:x --image-size 64 --data.workers 3"
    ),
    "--dataset hfds/cats --img-size 48": "--dataset hf:cats --image-size 48",
    "--no-aug --no-prefetcher": "--no-crop --no-flip",
    "--scale .5 1 --ratio 0.8 1.25": "--random-resized-crop-scale-min .5 --random-resized-crop-scale-max 1 "
    "--random-resized-crop-ratio-min .8",
    "--layer-decay 0.75 --log-wandb": "--layer-lr-decay 0.75 --tracker tensorboard,wandb",
    "train.base_lr 0.2 train.weight_decay 1e-4 train.nesterov False": (
        "--lr .2 --weight-decay 1e-4 --no-nesterov"
    ),
    "train.gradient_clip 0 train.no_weight_decay_on_bn True": "--no-decay-norm-and-bias",
    "train.precision O1 train.subdivision 2": "--precision fp16 --accumulate 2",
    "scheduler.type cosine scheduler.lr_min_factor .01": "--schedule cosine --schedule.end .01",
    "scheduler.type sgdr scheduler.T0 5 scheduler.T_mul 2": (
        "--schedule sgdr --schedule.first 5 --schedule.growth 2"
    ),
    "scheduler.warmup.type linear scheduler.warmup.epochs 5 scheduler.warmup.start_factor 1e-3": "--warmup 5 "
    "--warmup-start 1e-3 --warmup-shape linear",
    "dataset.name CIFAR10 dataset.dataset_dir x": "--dataset cifar10 --root x",
    "model.init_mode kaiming_fan_out": "--init kaiming --init.kaiming.mode fan_out",
    "model.init_mode xavier_uniform": "--init xavier",
    "model.name wrn model.wrn.depth 40 model.wrn.widening_factor 4": "--model wrn_40_4",
    "model.name densenet model.densenet.growth_rate 24": "--model densenet_bc_100_24",
    "model.name pyramidnet model.pyramidnet.depth 164": "--model pyramidnet164_a200_bottleneck",
    "model.name shake_shake model.shake_shake.initial_channels 32": "--model shake_resnet26_2x32d",
    "augmentation.use_random_crop False augmentation.cutout.mask_size 8": "--no-crop --cutout 8",
    "augmentation.random_erasing.area_ratio_range '[0.1, 0.2]'": "--random-erasing-area-min .1 "
    "--random-erasing-area-max .2",
    "augmentation.random_crop.padding_mode constant": "--crop-mode zero",
    "-net vgg16 -gpu -b 64 -warm 1 -lr 0.2 -resume": (
        "--model vgg16 --device cuda --batch-size 64 --warmup 1 --lr .2"
    ),
    "scheduler.warmup.type none scheduler.warmup.epochs 5": "",
    "--model resnet18 --drop 0. --drop-path 0": "--model resnet18",
    "--gpu 1 --bs 64 --sched warmup": "--device cuda:1 --batch-size 64 --schedule multistep --warmup 0.1",
    "--max_epochs 9 --precision 16-mixed --accelerator gpu": "--epochs 9 --precision fp16 --device cuda",
    "--model cifar100_resnet20": "--dataset cifar100 --model resnet20 --model.shortcut B",
    "--model cifar10_shufflenetv2_x1_5": "--model shufflenetv2_1_5",
}

# A setting without counterpart, and what the line must say.
REFUSED = {
    "--sched cosine --min-lr 1e-5": "give --lr too",
    "--lr-base 0.1": "give --batch-size too",
    "-b 128 --grad-accum-steps 4": "--batch-size 512 --accumulate 4",
    "--aa rand-m9-mstd0.5-inc1": "--randaugment-magnitude 9 --randaugment-num-ops 2",
    "--sched plateau": "--schedule step",
    "--amp-dtype bfloat16": "--precision bf16",
    "--num-classes 100": "cifar10 has 10 classes",
    "--input-size 3 224 224": "3x32x32",
    "--clip-mode value": "--clip NORM",
    "--resume last.pt": "--init-from last.pt",
    "--devices 4": "--nproc-per-node 4",
    "--precision bf16-true": "weights",
    "--ratio 0.5 1": "--random-resized-crop-ratio-min",
    "--aug-splits 3": "--augmix-jsd",
    "model.wrn.depth 40": "--model",
    "scheduler.warmup.type exponential": "--warmup-shape exponential",
}


def config(line: str) -> Config:
    return parse(shlex.split(line)).config()


@pytest.mark.parametrize("line", FLAGS)
def test_a_flag_of_another_project_works_or_says_what_to_write(line):
    flag = shlex.split(line)[0]
    try:
        config(line)
    except BadInput as error:
        said = str(error)
        assert said.startswith(flag) or flag in said
        assert "unknown" not in said and "did you mean" not in said and "\n" not in said
        assert len(said) < 250


@pytest.mark.parametrize(("theirs", "ours"), SAME.items())
def test_a_command_with_settings_of_another_project_is_the_same_as_with_ours(theirs, ours):
    assert config(theirs).tree() == config(ours).tree()
    assert config(theirs).digest() == config(ours).digest()


@pytest.mark.parametrize(("line", "remedy"), REFUSED.items())
def test_what_has_no_counterpart_is_refused_with_what_to_write(line, remedy):
    with pytest.raises(BadInput, match="command line") as caught:
        config(line)
    assert remedy in str(caught.value)


def test_every_flag_in_the_tables_is_one_that_was_tried():
    tried = {habits.normal(shlex.split(line)[0].lstrip("-")) for line in FLAGS}
    more = {"model_ema_warmup", "aot_autograd", "min_epochs", "min_steps", "seed_everything"}
    assert len({line.split()[0] for line in TIMM.replace("|", "\n").strip().splitlines()}) >= 60
    older = {"tensorboard", "run.tensorboard", "init", "init.mode", "cutout_length", "augment.cutout.length"}
    older |= {"alternating_flip", "train.lr", "train.device", "data_dir"}
    assert set(habits.MEANINGS) - tried <= more | older


def test_no_setting_of_ours_is_hidden_by_one_of_another_project():
    # The half precision of an older project; that of a cycle is written schedule.half.
    for key in set(habits.MEANINGS) - {"half"}:
        if "." not in key:
            with pytest.raises(BadInput, match="unknown setting"):
                path_of(key)
            continue
        section, name, *rest = key.split(".")
        if section in SECTIONS and not rest:
            choices = SECTIONS[section].registry.entries() if SECTIONS[section].is_choice else ()
            assert not any(name in owner.fields for owner in (SECTIONS[section], *choices)), key
        elif section in SECTIONS and SECTIONS[section].registry and name in SECTIONS[section].registry:
            assert rest[0] not in SECTIONS[section].registry[name].fields, key


def test_projects_agree_on_what_they_share():
    found = {}
    for project in PROJECTS:
        for key, meaning in project.meanings().items():
            assert found.setdefault(key, meaning) == meaning, key


def test_any_value_of_a_setting_of_another_project_works_or_is_refused_as_bad_input():
    odd = (
        "0",
        "-1",
        "true",
        "",
        "x",
        "1,2,3",
        "a/b",
        "1e400",
        "rand-m.-inc1-mstd.",
        "cifar10_",
        "lookahead_",
        "wrn",
    )
    more = (
        "",
        "--lr 0",
        "--lr-base x",
        "--lr-base-size 0 --batch-size 8 --lr-base 1",
        "--model zzz",
        "--sched zzz",
    )
    for key in (*habits.MEANINGS, *habits.SHORT, *habits.VALUES):
        for value, rest in zip(odd, (*more, *more), strict=True):
            with contextlib.suppress(BadInput):
                parse([f"--{key}={value}", *rest.split()]).config()


def test_how_a_setting_was_read_is_noted():
    (note,) = config("--reprob 0.25 --opt adamw --lr 1e-3").notes
    assert "--reprob 0.25 is augment.random_erasing.prob 0.25" in note and "optim.name adamw" in note
    (note,) = config("--pin-mem --lr 0.1").notes
    assert note.startswith("no effect of --pin-mem (command line): images stay on the device")
    assert config("--lr 0.1 --cutout 8").notes == []


def test_a_conversion_reads_all_sources(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 0.5\nsched: cosine\n")
    assert config(f"--config {tmp_path / 'a.yaml'} --min-lr 0.05").chosen["schedule"].options["end"] == 0.1


def test_empty_values_of_a_file_set_nothing(tmp_path):
    (tmp_path / "args.yaml").write_text(
        "aa: null\nclip_grad: null\ncrop_pct: null\naug_splits: 0\ndrop_path: null\n"
    )
    assert config(f"--config {tmp_path / 'args.yaml'}").changed == {}
    assert config(f"-c {tmp_path / 'args.yaml'}").changed == {}


def test_a_folder_alone_is_a_hint_at_the_root(tmp_path):
    with pytest.raises(BadInput, match="a folder: write --root"):
        config(str(tmp_path))


def test_an_option_of_a_model_is_suggested_with_its_section():
    with pytest.raises(BadInput, match=r"did you mean model\.patch_size\?"):
        config("--patch-size 4")
