"""Whether Python reads a converted folder to the same numbers: by hand, after a change to the conversion.

    cargo run --example convert -- crates/checkpoint/tests/golden/layouts/CASE/original.safetensors OUT
    python tests/reference/_check_convert.py CASE OUT

for each CASE of layouts.py. Every part is loaded with its own `from_pretrained`, and compared tensor by tensor with the model
that layouts.py made; then both run on the same input. A pipeline's folder is loaded as a whole too.
Made with torch 2.15.0, diffusers 0.42.1, transformers 5.23.0.
"""

import json
import sys
from pathlib import Path

import diffusers
import layouts
import torch
import transformers


def call(model):
    """One run on made-up input."""
    generator = torch.Generator().manual_seed(7)

    def noise(*shape):
        return torch.randn(shape, generator=generator)

    name, config = type(model).__name__, model.config
    with torch.no_grad():
        if name == "AutoencoderKL":
            picture = noise(1, config.in_channels, 16, 16)
            return model(picture).sample
        if name == "SD3Transformer2DModel":
            sample, prompt = noise(1, config.in_channels, 8, 8), noise(1, 5, config.joint_attention_dim)
            return model(sample, prompt, noise(1, config.pooled_projection_dim), torch.tensor([500.0])).sample
        if name in ("UNet2DConditionModel", "ControlNetModel"):
            sample, prompt = noise(1, config.in_channels, 8, 8), noise(1, 5, config.cross_attention_dim)
            if name == "ControlNetModel":
                hint = noise(1, 3, 64, 64)
                return model(sample, 500, prompt, hint).mid_block_res_sample
            width = config.projection_class_embeddings_input_dim
            added = None
            if width is not None:
                pooled = width - 6 * config.addition_time_embed_dim
                added = {"text_embeds": noise(1, pooled), "time_ids": torch.arange(6.0)[None]}
            return model(sample, 500, prompt, added_cond_kwargs=added).sample
        ids = torch.tensor([[3, 17, 22, 39, 39]])
        result = model(ids)
        return getattr(result, "text_embeds", None) if "Projection" in name else result.last_hidden_state


def main(case, out):
    steps = getattr(layouts, case)()
    models = next(steps)
    for seed, model in enumerate(models.values()):
        layouts.randomise(model, seed)
    next(steps)  # some cases change a weight after it was drawn
    out, alone = Path(out), len(models) == 1
    for part, model in models.items():
        loaded, report = type(model).from_pretrained(
            out if alone else out / part, output_loading_info=True, torch_dtype=torch.float32
        )
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert not report[kind], (part, kind, report[kind])
        expected, found = model.state_dict(), loaded.state_dict()
        assert expected.keys() == found.keys()
        for name in expected:
            assert torch.equal(expected[name].half(), found[name].half()), (part, name)
        error = (call(model) - call(loaded.eval())).abs().max().item()
        print(f"{case}/{part}: {len(expected)} tensors are equal; outputs differ by {error}")
        assert error == 0
    if not alone:
        # A file with a whole model holds no tokenizer.
        index = json.loads((out / "model_index.json").read_text())
        absent = {part: None for part in index if part.startswith("tokenizer") and index[part][0] is None}
        pipeline = diffusers.DiffusionPipeline.from_pretrained(out, **absent)
        print(f"{case}: {type(pipeline).__name__} with {type(pipeline.scheduler).__name__}")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(*sys.argv[1:])
