"""What the settings of other projects are called here, project by project.

In a table the left side is ours, or a reason, and the right side lists their spellings.
Their defaults are not taken over.
"""

from . import images, learning, machine, networks
from .meaning import LATEST, LOGGED, RESIDENT, SAME_BATCH, Project, only
from .timm import TIMM

TORCHRUN = "start the command by torchrun --nproc-per-node N"
EVALUATED = "a trained run is evaluated by --evaluate RUN"

BLOCKS = "choose a model that has these blocks: --list models"

PROJECTS = (
    Project(
        "PyTorch-CIFAR-Model-Hub",
        "https://github.com/pprp/PyTorch-CIFAR-Model-Hub",
        "--",
        same={
            "train.batch_size": "bs",
            "optim.lr": "learning_rate",
            "train.clip": "gradient_clip",
            "data.workers": "nw",
            "augment.random_erasing.area_min": "random_erase_sl",
            "augment.random_erasing.area_max": "random_erase_sh",
            "augment.random_erasing.ratio_min": "random_erase_r",
            "augment.cutout.size": "cutout_length augment.cutout.length",
            "augment.label_smoothing.epsilon": "smooth_factor",
            "augment.cutmix.alpha": "beta",
            "augment.flip.alternating": "alternating_flip",
        },
        converted={
            learning.optims: "optims",
            learning.criterion: "crit",
            learning.schedule: "sched",
            learning.amp: "half amp",
            machine.gpu: "gpu",
            images.fast: "fast",
            networks.init: "init",
            machine.tensorboard: "tensorboard run.tensorboard",
        },
        refused={"the networks found are --model spp_d20_pA and others": "geno"},
    ),
    TIMM,
    Project(
        "pytorch_image_classification",
        "https://github.com/hysts/pytorch_image_classification",
        "",
        same={
            "optim.name": "train.optimizer",
            "optim.lr": "train.base_lr train.lr",
            "optim.momentum": "train.momentum",
            "optim.nesterov": "train.nesterov",
            "optim.weight_decay": "train.weight_decay",
            "optim.adabound.bound_gamma": "optim.adabound.gamma",
            "train.accumulate": "train.subdivision",
            "train.epochs": "scheduler.epochs",
            "train.deterministic": "cudnn.deterministic",
            "train.init_from": "train.checkpoint",
            "train.sync_bn": "train.dist.use_sync_bn",
            "run.evaluate_every": "train.val_period",
            "run.save_every": "train.checkpoint_period",
            "run.output_dir": "train.output_dir",
            "run.device": "train.device",
            "data.val": "train.val_ratio",
            "data.root": "dataset.dataset_dir",
            "data.workers": "train.dataloader.num_workers",
            "schedule.name": "scheduler.type",
            "schedule.gamma": "scheduler.lr_decay",
            "schedule.end": "scheduler.lr_min_factor",
            "schedule.first": "scheduler.T0",
            "schedule.growth": "scheduler.T_mul",
            "schedule.warmup_start": "scheduler.warmup.start_factor",
            "augment.random_erasing.ratio_min": "augmentation.random_erasing.min_aspect_ratio",
            "augment.cutout.size": "augmentation.cutout.mask_size",
            "augment.cutout.inside": "augmentation.cutout.cut_inside",
            "augment.dual_cutout.alpha": "augmentation.cutout.dual_cutout_alpha",
            "model.dropout": "model.wrn.drop_rate model.densenet.drop_rate",
            "init.kaiming.mode": "init.mode",
        },
        converted={
            learning.clip: "train.gradient_clip",
            learning.undecayed: "train.no_weight_decay_on_bn",
            learning.warmup_type: "scheduler.warmup.type",
            learning.warmup_after_type: "scheduler.warmup.epochs",
            networks.init_mode: "model.init_mode",
            images.channels: "dataset.n_channels",
            images.classes: "dataset.n_classes",
            machine.resume: "train.resume",
            machine.tensorboard: "train.use_tensorboard",
            images.areas: "augmentation.random_erasing.area_ratio_range",
            images.padding_mode: "augmentation.random_crop.padding_mode",
            networks.size_of_model: (
                "model.resnet.depth model.wrn.depth model.wrn.widening_factor model.densenet.depth "
                "model.densenet.growth_rate model.pyramidnet.depth model.pyramidnet.alpha "
                "model.resnext.depth model.resnext.cardinality model.resnext.base_channels "
                "model.shake_shake.depth model.shake_shake.initial_channels model.se_resnet_preact.depth"
            ),
            only("cifar", instead="write --model timm/<name> for large images"): "model.type",
            only(0, instead="write --crop-mode zero or reflect"): "augmentation.random_crop.fill",
            only(0, instead="write --cutout-fill mean, black or noise"): "augmentation.cutout.mask_color",
            only("false", instead=TORCHRUN): "train.distributed",
            only(16, instead=BLOCKS): (
                "model.resnet.initial_channels model.wrn.initial_channels model.pyramidnet.initial_channels "
                "model.se_resnet_preact.initial_channels model.se_resnet_preact.se_reduction"
            ),
            only(64, instead=BLOCKS): "model.resnext.initial_channels",
            only(0.5, instead=BLOCKS): "model.densenet.compression_rate",
            only("basic", instead=BLOCKS): "model.resnet.block_type model.se_resnet_preact.block_type",
            only("bottleneck", instead=BLOCKS): "model.densenet.block_type model.pyramidnet.block_type",
            only("false", instead=BLOCKS): (
                "model.se_resnet_preact.remove_first_relu model.se_resnet_preact.add_last_bn"
            ),
            only("true", instead="write --model.forward, --model.backward or --model.level"): (
                "model.shake_shake.shake_forward model.shake_shake.shake_backward "
                "model.shake_shake.shake_image"
            ),
        },
        idle={
            RESIDENT: (
                "train.dataloader.pin_memory train.dataloader.non_blocking cudnn.benchmark "
                "validation.dataloader.num_workers validation.dataloader.drop_last "
                "validation.dataloader.pin_memory validation.dataloader.non_blocking "
                "test.dataloader.num_workers test.dataloader.pin_memory"
            ),
            LOGGED: "train.log_period",
            "the last, incomplete batch of an epoch is left out": "train.dataloader.drop_last",
            SAME_BATCH: "validation.batch_size test.batch_size",
            "test images are evaluated after every epoch; --val holds some out": (
                "train.use_test_as_val train.val_first"
            ),
            "a rectangle that does not fit is drawn again": "augmentation.random_erasing.max_attempt",
            "it belongs to the exponential warm-up, which has another formula here": (
                "scheduler.warmup.exponent"
            ),
            "it belongs to models for large images, which are timm/<name> here": (
                "model.resnet.n_blocks model.resnet_preact.n_blocks model.densenet.n_blocks "
                "model.pyramidnet.n_blocks model.resnext.n_blocks"
            ),
        },
        refused={
            TORCHRUN: (
                "train.dist.backend train.dist.init_method train.dist.world_size train.dist.node_rank "
                "train.dist.local_rank"
            ),
            EVALUATED: "test.checkpoint test.output_dir",
            "a repeated command resumes its run at the epoch it reached": "train.start_epoch",
            "python -m scripts.preview shows a batch": "tensorboard.train_images tensorboard.val_images",
            "last.pt holds the weights": "tensorboard.model_params",
            "write --optim larc or lars, with --optim.trust": "optim.lars.threshold",
            "the evaluation of a folder crops by --test-crop": (
                "tta.use_resize tta.use_center_crop tta.resize"
            ),
            BLOCKS: (
                "model.vgg.n_channels model.vgg.n_layers model.vgg.use_bn model.se_resnet_preact.preact_stage"
            ),
        },
    ),
    Project(
        "pytorch-cifar100",
        "https://github.com/weiaicunzai/pytorch-cifar100",
        "-",
        same={"model.name": "net", "schedule.warmup": "warm", "train.batch_size": "b"},
        converted={machine.gpu: "gpu", machine.resume: "resume"},
    ),
    Project(
        "pytorch-cifar",
        "https://github.com/kuangliu/pytorch-cifar",
        "--",
        converted={machine.resume: "resume r"},
    ),
    Project(
        "Lightning",
        "https://github.com/Lightning-AI/pytorch-lightning",
        "--",
        same={
            "train.epochs": "max_epochs",
            "train.seed": "seed_everything",
            "train.sync_bn": "sync_batchnorm",
            "run.evaluate_every": "check_val_every_n_epoch",
        },
        converted={
            learning.clip: "gradient_clip_val",
            learning.clip_mode: "gradient_clip_algorithm",
            learning.accumulate: "accumulate_grad_batches",
            machine.accelerator: "accelerator",
            machine.devices: "devices",
            machine.resume: "ckpt_path",
        },
        idle={
            LOGGED: "log_every_n_steps enable_progress_bar enable_model_summary",
            RESIDENT: "benchmark",
            "nothing runs before the training": "num_sanity_val_steps",
            LATEST: "enable_checkpointing",
        },
        refused={
            TORCHRUN: "num_nodes strategy",
            "write --epochs: a fraction ends within an epoch": "max_steps max_time min_epochs min_steps",
            "write --fraction, which trains on that part of the images": (
                "limit_train_batches overfit_batches"
            ),
            "all images are evaluated; write --evaluate-every EPOCHS": (
                "limit_val_batches limit_test_batches val_check_interval"
            ),
            "write --dry-run": "fast_dev_run",
            "write --tracker tensorboard, wandb or mlflow": "logger",
            "write --profile": "profiler",
            "a loss that becomes NaN ends the run with its step": "detect_anomaly",
            "write --output-dir, the folder of the run": "default_root_dir",
        },
    ),
)
