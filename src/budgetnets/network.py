"""The network: BudgetResNet, built from a spec, and build_resnet, its factory from the reports' six letters."""

# Annotations are evaluated here and in blocks.py: FX cannot script a graph whose annotations are strings.

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Dict, List, Optional, Tuple, Union, cast  # noqa: UP035  # TorchScript reads the old names

import torch
from timm.layers import calculate_drop_path_rates
from timm.models import checkpoint_seq
from timm.models._features import feature_take_indices
from torch import nn

from .blocks import POOL_TYPES, BasicBlock, Bottleneck, Device, Dtype, GridPool, Stem
from .budget import check_budget
from .checks import choice
from .spec import ResNetSpec, Stage, check_options
from .state import check_values
from .timm_config import timm_config

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
GENERIC_NAME = "budget_resnet"  # timm's name for any network of the family
MOST_PARAMS = 500_000_000  # nothing larger is ever allocated: two gigabytes in fp32


def check_images(x: torch.Tensor, in_chans: int) -> None:
    """Raise for input that is not normalized float images in (B, C, H, W); TorchScript, FX and export keep it."""
    if torch.jit.is_tracing():
        return
    if not isinstance(x, torch.Tensor):  # TorchScript knows that it is one, and leaves this out
        raise TypeError(
            f"the images are of type {type(x).__name__}; give a tensor, of a picture: "
            "budgetnets.transforms(name)(image).unsqueeze(0)"
        )
    if x.dim() == 3:
        raise ValueError(f"the images have shape {list(x.shape)}; add the batch dimension: images.unsqueeze(0)")
    if x.dim() != 4:
        raise ValueError(f"the images have shape {list(x.shape)}; give (batch, {in_chans}, height, width)")
    if x.shape[1] != in_chans:
        hint = f"give (batch, {in_chans}, height, width), or build the network with in_chans={x.shape[1]}"
        if x.shape[3] == in_chans:
            hint = "the channels are last; use images.permute(0, 3, 1, 2)"
        raise ValueError(f"the images have shape {list(x.shape)}, the network takes {in_chans} channels: {hint}")
    if not x.is_floating_point():
        raise TypeError(
            f"the images have dtype {x.dtype}; give normalized floats, as budgetnets.transforms(name) makes them "
            "(uint8: images / 255, less the mean, over the std)"
        )


torch.fx.wrap("check_images")


class BudgetResNet(nn.Module):
    """A residual network for small images, built from a `ResNetSpec`, with timm's model interface.

    Args:
        spec: the architecture. It stays on the network as `spec`, and follows `reset_classifier` and pruning.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" (no pool; only without a classifier).
        device, dtype: where and as what the parameters are made.

    Attributes:
        spec: what the network is; None once it is pruned to the stem alone.
        class_names: what the classifier's outputs mean, where that is known, else None.

    Raises:
        TypeError: no spec.
        ValueError: more than 500 million parameters, or an unknown pool.
    """

    def __init__(
        self,
        spec: ResNetSpec,
        *,
        global_pool: str = "avg",
        device: Device = None,
        dtype: Dtype = None,
    ) -> None:
        super().__init__()
        if not isinstance(spec, ResNetSpec):
            raise TypeError(
                f"spec={spec!r} must be a ResNetSpec; budgetnets.create takes a variant's name, build_resnet the "
                "letters N, B, C, ..., and ResNetSpec.from_dict a dictionary of them"
            )
        check_budget(spec, MOST_PARAMS)
        choice("global_pool", global_pool, POOL_TYPES)
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        # Casts in place of annotations, which TorchScript would read and not understand.
        self.spec = cast("ResNetSpec | None", spec)
        self.class_names = cast("tuple[str, ...] | None", None)
        # What timm reads to save and push the network; its own builder puts a variant's configuration here.
        self.pretrained_cfg = timm_config(spec) | {"architecture": GENERIC_NAME}
        letters_and_options = spec.to_dict().items()  # the classes and channels go into pretrained_cfg
        self._model_args = {key: v for key, v in letters_and_options if key not in ("num_classes", "in_chans")}
        self.num_classes = spec.num_classes
        self.in_chans: int = spec.in_chans
        self.num_features: int = spec.num_features
        self.grid: int = spec.grid
        self.drop_rate = spec.drop_rate
        self.grad_checkpointing = False

        se_reduction = spec.se_reduction if spec.se == "stem" else None
        self.stem = Stem(spec.in_chans, spec.widths[0], se_reduction, spec.se_bias, spec.act, spec.norm, **dd)
        drop_paths = iter(calculate_drop_path_rates(spec.drop_path_rate, sum(spec.blocks)))
        self.stages = nn.Sequential(*(_make_stage(spec, stage, drop_paths, dd) for stage in spec.stages))
        self.feature_info = _feature_info(spec)

        self.global_pool = GridPool(self.grid, global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.head_drop = nn.Dropout(spec.drop_rate)
        self.head = self._make_head(dd)
        self._apply_init()

    def _make_head(self, dd: dict[str, Any]) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        if not self.global_pool.pool_type:
            raise ValueError(
                f"a classifier of {self.num_classes} classes needs a pool; use 'avg', or num_classes=0 with ''"
            )
        return nn.Linear(self.head_hidden_size, self.num_classes, **dd)

    def init_weights(self) -> None:
        """Initialize all weights anew, as `spec.init` says; for a network whose storage was just allocated."""
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        self._apply_init()

    def _apply_init(self) -> None:
        """Replace PyTorch's default of convolutions and classifier; norms start at weight 1 and bias 0 anyway."""
        init = self.spec.init if self.spec else "default"
        if init == "default":
            return
        for module in self.modules():
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            if init == "normal":
                nn.init.normal_(module.weight, std=0.01)
            elif init == "he" and isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last stage's map, (B, in_chans, H, W) -> (B, num_features, H/s, W/s)."""
        check_images(x, self.in_chans)
        x = self.stem(x)  # (B, in_chans, H, W) -> (B, C, H, W)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.stages, x, flatten=True)
        return self.stages(x)  # (B, C, H, W) -> (B, num_features, H/s, W/s)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the logits of a map (B, num_features, h, w), or with `pre_logits` what the classifier takes."""
        x = self.global_pool(x)  # (B, num_features, h, w) -> (B, head_hidden_size)
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)  # (B, head_hidden_size) -> (B, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalized float images, (B, in_chans, H, W) -> (B, num_classes).

        Raises:
            TypeError: the images are no tensor of floats.
            ValueError: they have another shape.
        """
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: Optional[Union[int, List[int]]] = None,  # noqa: UP006, UP007, UP045
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Union[List[torch.Tensor], Tuple[torch.Tensor, List[torch.Tensor]]]:  # noqa: UP006, UP007
        """Return the last map and the maps after the stem (index 0) and each stage (1 to N), as timm's models do.

        Args:
            x: images (B, in_chans, H, W).
            indices: maps to return: the last n for an integer, those numbers for a sequence, all for None.
            norm: accepted as timm passes it; each map is already normalized and activated.
            stop_early: compute no stage after the last map asked for.
            output_fmt: "NCHW", the only one.
            intermediates_only: return the list of maps alone.
        """
        assert output_fmt == "NCHW", "the maps of a convolutional network are NCHW"
        check_images(x, self.in_chans)
        intermediates: List[torch.Tensor] = []  # noqa: UP006
        take_indices, max_index = feature_take_indices(len(self.stages) + 1, indices)
        x = self.stem(x)
        if 0 in take_indices:
            intermediates.append(x)
        if torch.jit.is_scripting() or not stop_early:  # TorchScript cannot slice modules
            stages = self.stages
        else:
            stages = self.stages[:max_index]
        for i, stage in enumerate(stages):
            if self.grad_checkpointing and not torch.jit.is_scripting():
                x = checkpoint_seq(stage, x)
            else:
                x = stage(x)
            if i + 1 in take_indices:
                intermediates.append(x)
        if intermediates_only:
            return intermediates
        return x, intermediates

    def prune_intermediate_layers(
        self,
        indices: Union[int, List[int]] = 1,  # noqa: UP006, UP007
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> List[int]:  # noqa: UP006
        """Cut off the stages after the last map asked for, and the classifier with them; return the maps' numbers.

        Arguments as `forward_intermediates` and timm's models; `prune_norm` has nothing to act on. With
        `prune_head=False` the classifier stays if all stages do.
        """
        take_indices, max_index = feature_take_indices(len(self.stages) + 1, indices)
        ends_earlier = max_index < len(self.stages)
        if ends_earlier:
            self.stages = self.stages[:max_index]
            self.num_features = self.feature_info[max_index]["num_chs"]
            self.grid = 1
            self.spec = self._pruned_spec(max_index)
        if ends_earlier or prune_head:
            self.reset_classifier(0, "")
        return take_indices

    def _pruned_spec(self, num_layers: int) -> ResNetSpec | None:
        if self.spec is None or num_layers == 0:
            return None
        letters = self.spec.to_dict()
        letters |= {name: letters[name][:num_layers] for name in ("B", "C", "F", "K", "strides")}
        # The rates rise linearly over the blocks, and those that are left keep theirs.
        letters["drop_path_rate"] *= (sum(letters["B"]) - 1) / (sum(self.spec.blocks) - 1)
        return ResNetSpec.from_dict(letters | {"N": num_layers, "P": None})

    def get_classifier(self) -> nn.Module:
        """Return the classifier: a linear layer, or an identity in a headless network."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: Optional[str] = None) -> None:  # noqa: UP045
        """Give the network a new classifier, freshly initialized by PyTorch's default.

        Args:
            num_classes: its outputs; 0 leaves it out.
            global_pool: another pool; "" passes the map through (num_classes=0 only); None keeps the present one, or
                goes back to "avg" where there is none and a classifier needs one.

        Raises:
            TypeError, ValueError: a number or a pool that is not possible. The network is then unchanged.
        """
        checked = (self.spec or ResNetSpec((1,), (1,))).replace(num_classes=num_classes)
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        if global_pool is None and checked.num_classes and not pool_type:
            pool_type = "avg"
        if checked.num_classes and not pool_type:
            raise ValueError(f"a classifier of {num_classes} classes needs a pool; use 'avg', or num_classes=0 with ''")
        choice("global_pool", pool_type, POOL_TYPES)
        reference = self.stem.conv.weight
        pool = GridPool(self.grid, pool_type)
        self.spec = checked if self.spec else None
        self.num_classes = checked.num_classes
        self.class_names = None
        self.global_pool = pool.train(self.training)
        self.head_hidden_size = self.num_features * pool.feat_mult()
        self.head = self._make_head({"device": reference.device, "dtype": reference.dtype}).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its maps: less memory, more time.

        The running statistics of BatchNorms inside the blocks are then updated twice in each step.
        """
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> Dict[str, str]:  # noqa: UP006
        """Return timm's patterns that order the parameters from stem to head, by stage or by block."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """Load as torch does, after refusing what torch would let through: integer or complex tensors, NaN, infinity.

        Raises:
            TypeError: no state dict.
            WeightsMismatch: such a tensor; nothing is loaded then.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"the state dict is a {type(state_dict).__name__}; give a mapping from names to tensors. A file is to "
                "be loaded first: safetensors.torch.load_file(path), or torch.load(path, weights_only=True)"
            )
        check_values(state_dict, self.state_dict(), "the state dict")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def _make_stage(spec: ResNetSpec, stage: Stage, drop_paths: Iterator[Any], dd: dict[str, Any]) -> nn.Sequential:
    block = BLOCKS[spec.block]
    return nn.Sequential(
        *(
            block(
                stage.in_width if i == 0 else stage.out_width,
                stage.width,
                stride=stage.stride if i == 0 else 1,
                kernel_size=stage.kernel_size,
                skip_kernel_size=stage.skip_kernel_size,
                se_reduction=spec.se_reduction if spec.se == "block" else None,
                se_bias=spec.se_bias,
                act=spec.act,
                norm=spec.norm,
                drop_path=drop_path,
                drop=spec.block_drop_rate,
                **dd,
            )
            for i, drop_path in enumerate(islice(drop_paths, stage.blocks))
        )
    )


def _feature_info(spec: ResNetSpec) -> list[dict[str, Any]]:
    """Return what timm's feature extraction reads: channels, stride and module of each map it can take."""
    info: list[dict[str, Any]] = [{"num_chs": spec.widths[0], "reduction": 1, "module": "stem"}]
    for stage in spec.stages:
        reduction = info[-1]["reduction"] * stage.stride
        info.append({"num_chs": stage.out_width, "reduction": reduction, "module": f"stages.{stage.index}"})
    return info


def build_resnet(
    N: int,
    B: Any,
    C: Any,
    F: Any = 3,
    K: Any = 1,
    P: int | None = None,
    *,
    strides: Any = None,
    se: str | None = None,
    se_reduction: int = 16,
    se_bias: bool = True,
    block: str = "basic",
    act: str = "relu",
    norm: str = "batchnorm2d",
    drop_rate: float = 0.0,
    block_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    num_classes: int = 10,
    in_chans: int = 3,
    input_size: int = 32,
    init: str = "default",
    max_params: float | None = None,
    **unknown: Any,
) -> BudgetResNet:
    """Return a new network of the family, randomly initialized.

    Args:
        N: residual layers.
        B: residual blocks in each layer.
        C: channels of each layer.
        F: kernel of the blocks' convolutions.
        K: kernel of the skip convolutions.
        P: average-pool kernel before the classifier; None: the final map's side, 32 / 2^(N-1) at the usual strides.
        max_params: refuse a network with more parameters, before it is built.

    B, C, F, K and `strides` take one integer for all layers or a sequence of N. The options are those of
    `ResNetSpec`, which explains each.

    Raises:
        TypeError, ValueError: as `ResNetSpec`; an unknown option is answered with the nearest known one.
        ValueError: the network has more than `max_params` parameters; the message says how many more.

    Source: the notation of report R2, section 2, after "Efficient ResNets" (arXiv 2306.12100).
    """
    check_options(unknown)
    spec = ResNetSpec.from_letters(
        *(N, B, C, F, K, P),
        strides=strides,
        se=se,
        se_reduction=se_reduction,
        se_bias=se_bias,
        block=block,
        act=act,
        norm=norm,
        drop_rate=drop_rate,
        block_drop_rate=block_drop_rate,
        drop_path_rate=drop_path_rate,
        num_classes=num_classes,
        in_chans=in_chans,
        input_size=input_size,
        init=init,
    )
    if max_params is not None:
        check_budget(spec, max_params)
    return BudgetResNet(spec)
