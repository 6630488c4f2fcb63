# pyright: basic, reportMissingImports=false
"""Makes the models of this folder: small ones of known architectures, by both exporters of torch.

Run by hand, where torch is: ``python make.py OUT [NAME ...]``. Each model has two layers, narrow
rows and random weights; the weights are left out, and filled again by `leptonc.tools.materialize`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

KEPT = 64
"""Tensors of at most so many elements keep their data."""


class Only(nn.Module):
    """A model whose result is one or more tensors, whatever else it gives."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], result: str, **fixed: Any) -> None:
        super().__init__()
        self.model, self.names, self.result, self.fixed = model, names, result, fixed

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The tensor asked for."""
        given = dict(zip(self.names, tensors, strict=True))
        return getattr(self.model(**given, **self.fixed), self.result)


def _tokens(*shape: int) -> torch.Tensor:
    return torch.randint(3, 90, shape)


def _text(model: nn.Module, result: str, *names: str, **fixed: Any) -> tuple[nn.Module, dict]:
    inputs = {name: _tokens(2, 7) for name in names}
    for name in names:
        if name.endswith("mask"):
            inputs[name] = torch.ones(2, 7, dtype=torch.int64)
            inputs[name][1, 5:] = 0
    return Only(model, names, result, **fixed), inputs


def bert(attention: str) -> tuple[nn.Module, dict]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, attn_implementation=attention,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    return _text(model, "last_hidden_state", "input_ids", "attention_mask")


def roberta(attention: str) -> tuple[nn.Module, dict]:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, attn_implementation=attention,
    )  # fmt: skip
    model = RobertaModel(config, add_pooling_layer=False)
    return _text(model, "last_hidden_state", "input_ids", "attention_mask")


def gpt2(attention: str) -> tuple[nn.Module, dict]:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=32,
        attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask")
    return _text(GPT2Model(config), "last_hidden_state", *names, use_cache=False)


def llama(attention: str) -> tuple[nn.Module, dict]:
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=32,
        attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask")
    return _text(LlamaModel(config), "last_hidden_state", *names, use_cache=False)


def gemma2(attention: str) -> tuple[nn.Module, dict]:
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=32,
        sliding_window=4, query_pre_attn_scalar=8, attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask")
    return _text(Gemma2Model(config), "last_hidden_state", *names, use_cache=False)


def gpt_neox(attention: str) -> tuple[nn.Module, dict]:
    from transformers import GPTNeoXConfig, GPTNeoXModel

    config = GPTNeoXConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, rotary_pct=0.5,
        attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask")
    return _text(GPTNeoXModel(config), "last_hidden_state", *names, use_cache=False)


def gptj(attention: str) -> tuple[nn.Module, dict]:
    from transformers import GPTJConfig, GPTJModel

    config = GPTJConfig(
        vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=32, rotary_dim=4,
        attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask")
    return _text(GPTJModel(config), "last_hidden_state", *names, use_cache=False)


def t5(attention: str) -> tuple[nn.Module, dict]:
    from transformers import T5Config, T5Model

    config = T5Config(
        vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    return _text(T5Model(config), "last_hidden_state", *names, use_cache=False)


def bart(attention: str) -> tuple[nn.Module, dict]:
    from transformers import BartConfig, BartModel

    config = BartConfig(
        vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=32, attn_implementation=attention,
    )  # fmt: skip
    names = ("input_ids", "attention_mask", "decoder_input_ids")
    return _text(BartModel(config), "last_hidden_state", *names, use_cache=False)


def whisper(attention: str) -> tuple[nn.Module, dict]:
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig(
        vocab_size=99, num_mel_bins=16, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_source_positions=10, max_target_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        attn_implementation=attention,
    )  # fmt: skip
    inputs = {
        "input_features": torch.randn(1, 16, 20),
        "decoder_input_ids": _tokens(1, 6),
        "decoder_attention_mask": torch.ones(1, 6, dtype=torch.int64),
    }
    model = WhisperModel(config)
    return Only(model, tuple(inputs), "last_hidden_state", use_cache=False), inputs


def vit(attention: str) -> tuple[nn.Module, dict]:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        image_size=32, patch_size=8, attn_implementation=attention,
    )  # fmt: skip
    inputs = {"pixel_values": torch.randn(1, 3, 32, 32)}
    model = ViTModel(config, add_pooling_layer=False)
    return Only(model, tuple(inputs), "last_hidden_state"), inputs


def clip(attention: str) -> tuple[nn.Module, dict]:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, projection_dim=16,
        attn_implementation=attention,
    )  # fmt: skip
    return _text(CLIPTextModel(config), "last_hidden_state", "input_ids", "attention_mask")


def _image(model: nn.Module, size: int = 64) -> tuple[nn.Module, dict]:
    return model, {"image": torch.randn(1, 3, size, size)}


def timm_vit(attention: str) -> tuple[nn.Module, dict]:
    import timm
    from timm.layers import set_fused_attn

    set_fused_attn(attention == "sdpa")
    return _image(timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4,
        num_classes=10,
    ), 32)  # fmt: skip


def swin(attention: str) -> tuple[nn.Module, dict]:
    import timm
    from timm.layers import set_fused_attn

    set_fused_attn(attention == "sdpa")
    return _image(timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(2, 2),
        num_heads=(2, 4), num_classes=10,
    ), 32)  # fmt: skip


def convnext(attention: str) -> tuple[nn.Module, dict]:
    import timm

    return _image(
        timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=10)
    )


def mixer(attention: str) -> tuple[nn.Module, dict]:
    from timm.models.mlp_mixer import MlpMixer

    return _image(MlpMixer(
        num_classes=10, img_size=64, patch_size=32, num_blocks=2, embed_dim=32
    ))  # fmt: skip


def mobilenet_v3(attention: str) -> tuple[nn.Module, dict]:
    from torchvision.models import mobilenet_v3_small

    model = mobilenet_v3_small(num_classes=10, width_mult=0.25)
    model.features = model.features[:6]
    model.classifier[0] = nn.Linear(16, 16)
    model.classifier[3] = nn.Linear(16, 10)
    model.features[5] = nn.Sequential(model.features[5], nn.LazyConv2d(16, 1))
    return _image(model)


def efficientnet(attention: str) -> tuple[nn.Module, dict]:
    import timm

    return _image(timm.create_model("test_efficientnet", num_classes=10))


def resnet(attention: str) -> tuple[nn.Module, dict]:
    import timm

    return _image(timm.create_model("test_resnet", num_classes=10))


class Residual(nn.Module):
    """The residual block of diffusion models, with the time it is told."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(8, channels)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The map after this."""
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = h + self.time(nn.functional.silu(time))[:, :, None, None]
        return x + self.conv2(nn.functional.silu(self.norm2(h)))


class Spatial(nn.Module):
    """Attention among the places of a map, its heads folded into the batch."""

    def __init__(self, channels: int, heads: int, attention: str) -> None:
        super().__init__()
        self.norm, self.heads, self.attention = nn.GroupNorm(4, channels), heads, attention
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map after this."""
        batch, channels, height, width = x.shape
        flat = self.norm(x).reshape(batch, channels, height * width)
        wide = channels // self.heads
        qkv = self.qkv(flat).reshape(batch * self.heads, 3 * wide, height * width)
        q, k, v = qkv.split(wide, dim=1)
        if self.attention == "sdpa":
            q, k, v = (part.transpose(1, 2).contiguous() for part in (q, k, v))
            mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        else:
            scale = wide**-0.25
            weights = torch.softmax(torch.einsum("bct,bcs->bts", q * scale, k * scale), dim=-1)
            mixed = torch.einsum("bts,bcs->bct", weights, v)
        mixed = mixed.reshape(batch, channels, height * width)
        return x + self.out(mixed).reshape(x.shape)


class Unet(nn.Module):
    """One level of the network of diffusion models."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, padding=1)
        self.first, self.last = Residual(16), Residual(16)
        self.attention = Spatial(16, 2, attention)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The map after this."""
        return self.last(self.attention(self.first(self.enter(x), time)), time)


def unet(attention: str) -> tuple[nn.Module, dict]:
    return Unet(attention), {"image": torch.randn(1, 3, 8, 8), "time": torch.randn(1, 8)}


def _model(config: str, model: str, **fields: Any) -> Callable[[str], tuple[nn.Module, dict]]:
    """A language model of two narrow layers."""

    def make(attention: str) -> tuple[nn.Module, dict]:
        import transformers

        made = getattr(transformers, config)(attn_implementation=attention, **fields)
        names = ("input_ids", "attention_mask")
        fixed = {} if "Bert" in model or "Deberta" in model else {"use_cache": False}
        return _text(getattr(transformers, model)(made), "last_hidden_state", *names, **fixed)

    return make


NARROW = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 32,
}  # fmt: skip


def conformer(attention: str) -> tuple[nn.Module, dict]:
    from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

    config = Wav2Vec2ConformerConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, conv_dim=(16, 16), conv_stride=(5, 2), conv_kernel=(10, 3),
        num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        conv_depthwise_kernel_size=3, position_embeddings_type="relative", max_source_positions=50,
    )  # fmt: skip
    inputs = {"input_values": torch.randn(1, 400)}
    return Only(Wav2Vec2ConformerModel(config), tuple(inputs), "last_hidden_state"), inputs


def sam(attention: str) -> tuple[nn.Module, dict]:
    from transformers import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    config = SamVisionConfig(
        hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=4,
        image_size=64, patch_size=8, window_size=4, global_attn_indexes=[1], mlp_dim=64,
        attn_implementation=attention,
    )  # fmt: skip
    inputs = {"pixel_values": torch.randn(1, 3, 64, 64)}
    return Only(SamVisionEncoder(config), tuple(inputs), "last_hidden_state"), inputs


class Detector(nn.Module):
    """Boxes by learnt queries of an image, as torch's own transformer has them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 32, 8, 8)
        self.transformer = nn.Transformer(32, 4, 2, 2, 64, batch_first=True)
        self.places, self.queries = (
            nn.Parameter(torch.rand(64, 32)),
            nn.Parameter(torch.rand(9, 32)),
        )
        self.box = nn.Linear(32, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The boxes."""
        rows = self.enter(image).flatten(2).permute(0, 2, 1)
        asked = self.queries.unsqueeze(0).expand(image.shape[0], -1, -1)
        return self.box(self.transformer(self.places + rows, asked)).sigmoid()


def detr(attention: str) -> tuple[nn.Module, dict]:
    torch.backends.mha.set_fastpath_enabled(False)
    return _image(Detector())


class Suppressed(nn.Module):
    """Boxes around learnt places of an image, those that overlap with better ones left out."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 7, 8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Corners, score and class of each box."""
        from torchvision.ops import nms

        rows = self.enter(image).flatten(2).permute(0, 2, 1).sigmoid()
        middle, size, classes = rows.split((2, 2, 3), -1)
        corners = torch.cat([middle - size / 2, middle + size / 2], -1)[0]
        score, kind = classes[0].max(-1)
        apart = corners + kind.to(corners)[:, None] * (corners.max() + 1)
        kept = nms(apart, score, 0.4)
        return torch.cat([corners[kept], score[kept, None], kind[kept, None].to(corners)], 1)


def suppressed(attention: str) -> tuple[nn.Module, dict]:
    return _image(Suppressed())


class Complex(nn.Module):
    """Attention whose queries and keys are turned as complex numbers."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.attention, self.norm = attention, nn.RMSNorm(32)
        self.q, self.k, self.v = (nn.Linear(32, 32, bias=False) for _ in range(3))
        angles = torch.outer(torch.arange(16.0), 1 / (10000 ** (torch.arange(0, 8, 2) / 8)))
        self.register_buffer("angles", torch.stack([angles.cos(), angles.sin()], -1))

    def turned(self, rows: torch.Tensor) -> torch.Tensor:
        """Heads turned by their places."""
        pairs = torch.view_as_complex(rows.float().reshape(*rows.shape[:-1], -1, 2))
        by = torch.view_as_complex(self.angles[: rows.shape[1]]).view(1, rows.shape[1], 1, 4)
        return torch.view_as_real(pairs * by).flatten(3).type_as(rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The rows after this."""
        batch, length, width = x.shape
        rows = self.norm(x)
        q, k, v = (each(rows).view(batch, length, 4, 8) for each in (self.q, self.k, self.v))
        q, k, v = (each.transpose(1, 2) for each in (self.turned(q), self.turned(k), v))
        if self.attention == "sdpa":
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.triu(torch.full((length, length), float("-inf")), 1)
            scores = q @ k.transpose(2, 3) / 8**0.5 + mask
            mixed = torch.softmax(scores.float(), -1).type_as(q) @ v
        return x + mixed.transpose(1, 2).reshape(batch, length, width)


def complex_rotary(attention: str) -> tuple[nn.Module, dict]:
    return Complex(attention), {"rows": torch.randn(1, 6, 32)}


def llama_half(attention: str) -> tuple[nn.Module, dict]:
    model, inputs = llama(attention)
    return model.half(), inputs


def _timm(name: str, size: int = 64, **fields: Any) -> Callable[[str], tuple[nn.Module, dict]]:
    def make(attention: str) -> tuple[nn.Module, dict]:
        import timm
        from timm.layers import set_fused_attn

        set_fused_attn(attention == "sdpa")
        return _image(timm.create_model(name, num_classes=10, **fields), size)

    return make


PLAIN = (("eager", "script"), ("eager", "dynamo"))
PAIR = (("eager", "script"), ("sdpa", "dynamo"))
FOUR = (*PAIR, ("sdpa", "script"), ("eager", "dynamo"))
MODELS: Mapping[str, tuple[Callable[[str], tuple[nn.Module, dict]], tuple[tuple[str, str], ...]]]
MODELS = MappingProxyType({
    "bert": (bert, FOUR), "gpt2": (gpt2, FOUR), "llama": (llama, FOUR), "gemma2": (gemma2, PLAIN),
    "gpt_neox": (gpt_neox, PAIR), "gptj": (gptj, PLAIN), "t5": (t5, PAIR), "bart": (bart, PAIR),
    "whisper": (whisper, PAIR), "vit": (vit, PAIR), "clip": (clip, PAIR),
    "timm_vit": (timm_vit, PAIR), "swin": (swin, PLAIN), "convnext": (convnext, PLAIN),
    "mixer": (mixer, PLAIN), "mobilenet_v3": (mobilenet_v3, PLAIN),
    "efficientnet": (efficientnet, PLAIN), "resnet": (resnet, PLAIN), "unet": (unet, FOUR),
    "mistral": (_model(
        "MistralConfig", "MistralModel", num_key_value_heads=2, sliding_window=4, **NARROW
    ), PAIR),
    "gemma3": (_model(
        "Gemma3TextConfig", "Gemma3TextModel", num_key_value_heads=2, head_dim=8,
        sliding_window=4, **NARROW,
    ), PAIR),
    "bloom": (_model(
        "BloomConfig", "BloomModel", vocab_size=99, hidden_size=32, n_layer=2, n_head=4
    ), PLAIN),
    "deberta": (_model(
        "DebertaV2Config", "DebertaV2Model", relative_attention=True, position_buckets=8,
        pos_att_type="p2c|c2p", share_att_key=True, norm_rel_ebd="layer_norm",
        max_relative_positions=16, **NARROW,
    ), PLAIN),
    "modernbert": (_model(
        "ModernBertConfig", "ModernBertModel", pad_token_id=0, local_attention=4,
        global_attn_every_n_layers=2, **NARROW,
    ), PAIR),
    "conformer": (conformer, PLAIN), "sam": (sam, PAIR), "detr": (detr, PLAIN),
    "suppressed": (suppressed, PLAIN),
    "complex_rotary": (complex_rotary, (("eager", "dynamo"), ("sdpa", "dynamo"))),
    "llama_half": (llama_half, (("eager", "dynamo"), ("sdpa", "script"))),
    "mobilevit": (_timm("mobilevit_xxs"), PLAIN), "seresnet": (_timm("seresnet18"), PLAIN),
    "xcit": (_timm("xcit_nano_12_p16_224", embed_dim=32, depth=2, num_heads=4), PLAIN),
    "swinv2": (_timm(
        "swinv2_tiny_window8_256", img_size=64, window_size=4, embed_dim=16, depths=(1, 1),
        num_heads=(2, 4),
    ), PLAIN),
})  # fmt: skip
"""How each model is made, and with which kinds of attention by which exporters."""


def randomize(model: nn.Module) -> None:
    """Give every parameter numbers that nothing can leave out."""
    with torch.no_grad():
        buffers = (item for item in model.named_buffers() if "running_" in item[0])
        for name, tensor in (*model.named_parameters(), *buffers):
            if tensor.dim() > 1:
                tensor.normal_(0, 0.2)
            elif name.endswith(("var", "weight")):
                tensor.uniform_(0.7, 1.3)
            else:
                tensor.uniform_(-0.3, 0.3)


def export_script(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    """By the exporter that traces, at opset 14, batch and length open where it is text."""
    texts = [name for name, x in inputs.items() if not x.is_floating_point()]
    axes = {name: {0: "batch", 1: "length"} for name in texts}
    torch.onnx.export(
        model, tuple(inputs.values()), str(path), dynamo=False, opset_version=14,
        input_names=list(inputs), output_names=["result"], dynamic_axes=axes,
    )  # fmt: skip


def export_dynamo(model: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    """By the exporter that captures, at its own opset."""
    torch.onnx.export(
        model, tuple(inputs.values()), str(path), dynamo=True, external_data=False,
        input_names=list(inputs), output_names=["result"],
    )  # fmt: skip


def stripped(path: Path) -> onnx.ModelProto:
    """The model without its weights, and without what says where its nodes come from."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        data = numpy_helper.to_array(tensor)
        if data.dtype.kind == "f" and data.size > KEPT and np.unique(data).size > data.size // 3:
            tensor.doc_string = f"random mean={data.mean():.6g} std={data.std():.6g}"
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    rename(model.graph)
    return model


def rename(graph: onnx.GraphProto) -> None:
    """Give short names to what is neither an input nor an output; exporters' are most of a file."""
    kept = {item.name for item in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""} | {name: name for name in kept}
    for tensor in graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
    for node in graph.node:
        node.name = ""
        for values in (node.input, node.output):
            for index, value in enumerate(values):
                values[index] = names.setdefault(value, f"v{len(names)}")


def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    exporters = {"script": export_script, "dynamo": export_dynamo}
    for name, (make, variants) in MODELS.items():
        for kind, how in variants:
            label = f"{name}_{kind}_{how}"
            target = folder / f"{label}.onnx"
            if (names and name not in names) or target.exists():
                continue
            torch.manual_seed(0)
            model, inputs = make(kind)
            model.eval()
            with torch.no_grad():
                model(*inputs.values())
            randomize(model)
            whole = folder / f"{label}.whole"
            try:
                with torch.no_grad():
                    exporters[how](model, inputs, whole)
            except Exception as error:
                sys.stderr.write(f"{label}: {type(error).__name__}: {str(error)[:300]}\n")
                continue
            target.write_bytes(stripped(whole).SerializeToString())
            whole.unlink()
            sys.stderr.write(f"{label}: {target.stat().st_size}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
