from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from archsearch import export
from archsearch.data.shape import Shape
from archsearch.domains.images.task import ImageTask
from archsearch.hardware import measure_model
from archsearch.models import AutoFormer

# B batch, C channels, H W space, D features


def tiny(
    num_heads: tuple[int, ...] = (3, 4), mlp_ratio: tuple[float, ...] = (4.0, 3.5), **kwargs: object
) -> AutoFormer:
    """Width 12, two layers, 8×8 gray pixels in patches of 4."""
    settings = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 10, **kwargs}
    return AutoFormer(12, num_heads, mlp_ratio, **settings)


def test_parameters_and_macs_by_hand() -> None:
    # Four patches of 16 pixels and a class token, five tokens. Hidden widths 48 and 42.
    embed, positions, token, norm, head = 16 * 12 + 12, 5 * 12, 12, 2 * 12, 12 * 10 + 10
    attention = 12 * 36 + 36 + 12 * 12 + 12
    mlps = [12 * hidden + hidden + hidden * 12 + 12 for hidden in (48, 42)]
    params = embed + positions + token + 2 * (2 * norm + attention) + sum(mlps) + norm + head
    macs = 4 * 16 * 12 + 2 * (5 * (12 * 36 + 12 * 12) + 2 * 25 * 12) + 5 * 2 * 12 * (48 + 42) + 12 * 10
    with torch.device("meta"):
        found = measure_model(tiny().requires_grad_(False), Shape((1, 8, 8)))
    assert (found.params, found.macs) == (params, macs)


def test_heads_cost_nothing_and_still_change_the_answer() -> None:
    with torch.device("meta"):
        costs = {
            measure_model(tiny(heads).requires_grad_(False), Shape((1, 8, 8))) for heads in ((3, 3), (3, 4), (4, 4))
        }
    assert len(costs) == 1
    x_BCHW = torch.rand(2, 1, 8, 8)
    few, more = tiny((3, 3)).eval(), tiny((4, 3)).eval()
    more.load_state_dict(few.state_dict())
    with torch.no_grad():
        assert (few(x_BCHW) - more(x_BCHW)).abs().max() > 1e-7


def test_each_layer_has_its_own_heads_and_mlp() -> None:
    model = tiny((3, 4, 3), (3.5, 4.0, 4.0))
    assert [block.attn.num_heads for block in model.blocks] == [3, 4, 3]
    assert [block.mlp.fc1.out_features for block in model.blocks] == [42, 48, 48]


def test_what_timms_transformer_can_be_told_reaches_every_layer() -> None:
    model = tiny((3, 4, 3), (4.0, 4.0, 4.0), drop_path_rate=0.2, qkv_bias=False)
    assert [block.attn.qkv.bias for block in model.blocks] == [None] * 3
    assert [getattr(block.drop_path1, "drop_prob", 0) for block in model.blocks] == pytest.approx([0, 0.1, 0.2])


def test_the_mean_of_the_patches_is_classified_without_the_class_token() -> None:
    model = tiny().eval()
    x_BND = torch.rand(2, 5, 12)
    pooled_BD = model.forward_head(x_BND, pre_logits=True)
    torch.testing.assert_close(pooled_BD, x_BND[:, 1:].mean(1))


def test_a_number_of_heads_without_its_mlp_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers of heads and 1 MLP ratios"):
        tiny((3, 4), (4.0,))


def test_timm_builds_it_by_name_and_loads_it_from_a_folder(tmp_path: Path, gray_task: ImageTask) -> None:
    torch.manual_seed(0)
    args = {"embed_dim": 12, "num_heads": [3, 4], "mlp_ratio": [3.5, 4.0], "img_size": 8, "patch_size": 4}
    model = timm.create_model("autoformer", num_classes=10, in_chans=1, **args).eval()
    assert isinstance(model, AutoFormer)
    export.save_student(model, gray_task, tmp_path / "student")
    again = timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).eval()
    x_BCHW = torch.rand(2, 1, 8, 8)
    with torch.inference_mode():
        assert again(x_BCHW).equal(model(x_BCHW))


def test_layers_start_as_timms_own_do() -> None:
    torch.manual_seed(0)
    for block in tiny().blocks:
        assert not block.attn.qkv.bias.any()
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.2)
