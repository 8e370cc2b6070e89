"""Prompts with weights and in chunks, through the tiny pipelines of pipelines.py (torch 2.15.0, diffusers 0.42.1, transformers 5.23.0).

    python tests/reference/prompts.py

reads crates/pipelines/tests/golden/stable_diffusion and stable_diffusion_3, and writes crates/pipelines/tests/golden/prompts/

    runs.json           a list: the run's name, the pipeline, the request (Python's arguments)
    runs.safetensors    RUN.prompt_embeds, RUN.pooled_prompt_embeds, RUN.image

diffusers knows no weights. Here the notation is read by recursion, each chunk goes through transformers' CLIP by itself, and diffusers draws with the
embeddings. z' = w z mean(z) / mean(w z), over the tokens and channels of one chunk of one prompt.
"""

import json
import re
import shutil

import torch
from lora import base
from pipelines import GOLDEN
from safetensors.torch import save_file

FOLDER = GOLDEN / "prompts"
ROOM = 14  # the tiny encoders read 16 tokens


def read(text, weight=1.0, until=""):
    """A list of (characters or None for BREAK, weight), and what follows the bracket that closes."""
    parts, now = [], ""

    def keep():
        nonlocal now
        for i, piece in enumerate(re.split(r"\s*\bBREAK\b\s*", now)):
            if i:
                parts.append((None, weight))
            if piece:
                parts.append((piece, weight))
        now = ""

    while text:
        char = text[0]
        number = re.match(r":\s*([-+]?[.\d]+)\s*\)", text)
        if char == "\\" and text[1:2] and text[1] in "\\()[]":
            now, text = now + text[1], text[2:]
        elif char in "([":
            keep()
            inner, factor, text = read(text[1:], 1.0, {"(": ")", "[": "]"}[char])
            parts += [(piece, weight * factor * w) for piece, w in inner]
        elif until == ")" and number:
            keep()
            return parts, float(number[1]), text[number.end():]
        elif char == until:
            keep()
            return parts, 1.1 if char == ")" else 1 / 1.1, text[1:]
        else:
            now, text = now + char, text[1:]
    keep()
    return parts, {"": 1.0, ")": 1.1, "]": 1 / 1.1}[until], ""


def chunks(prompt, tokenizer):
    """Lists of (token, weight), of ROOM at most."""
    parts, _, _ = read(prompt)
    segments = [[]]
    for piece, weight in parts:
        if piece is None:
            segments.append([])
        elif segments[-1] and segments[-1][-1][1] == weight:
            segments[-1][-1] = (segments[-1][-1][0] + piece, weight)
        else:
            segments[-1].append((piece, weight))
    found = []
    for i, segment in enumerate(segments):
        tokens = [(token, weight) for piece, weight in segment for token in tokenizer(piece, add_special_tokens=False).input_ids]
        found += [tokens[at : at + ROOM] for at in range(0, len(tokens), ROOM)]
        if not tokens and (i + 1 < len(segments) or not found):
            found.append([])
    return found, " ".join(filter(None, ("".join(piece for piece, _ in segment) for segment in segments)))


def states(encoder, tokenizer, found, layer):
    all_states, pooled = [], None
    for chunk in found:
        fill = ROOM - len(chunk)
        ids = [tokenizer.bos_token_id] + [token for token, _ in chunk] + [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * fill
        weights = torch.tensor([1.0] + [weight for _, weight in chunk] + [1.0] * (fill + 1))
        output = encoder(torch.tensor([ids]), output_hidden_states=True)
        z = output.last_hidden_state if layer is None else output.hidden_states[layer]
        if (weights != 1).any():
            weighted = z * weights[None, :, None]
            z = weighted * (z.mean() / weighted.mean())
        all_states.append(z)
        if pooled is None:
            pooled = output.text_embeds if layer is not None else None
    return torch.cat(all_states, 1), pooled


def encode(pipeline, prompt, count):
    """Embeddings in `count` chunks."""
    fill = lambda found: found + [[]] * (count - len(found))
    if not hasattr(pipeline, "tokenizer_3"):
        found, _ = chunks(prompt, pipeline.tokenizer)
        return states(pipeline.text_encoder, pipeline.tokenizer, fill(found), None)
    parts, pooled = [], []
    for encoder, tokenizer in [(pipeline.text_encoder, pipeline.tokenizer), (pipeline.text_encoder_2, pipeline.tokenizer_2)]:
        found, plain = chunks(prompt, tokenizer)
        z, p = states(encoder, tokenizer, fill(found), -2)
        parts.append(z)
        pooled.append(p)
    clip = torch.cat(parts, 2)
    t5 = pipeline._get_t5_prompt_embeds(prompt=plain, max_sequence_length=20, device="cpu")
    clip = torch.nn.functional.pad(clip, (0, t5.shape[2] - clip.shape[2]))
    return torch.cat([clip, t5], 1), torch.cat(pooled, 1)


RUNS = [
    ("weighted", "stable_diffusion", "a (red:1.3) kiln", "[blurry]"),
    ("nested", "stable_diffusion", r"((a red)) [kiln (in:0.5)] the \(rain\)", ""),
    ("long", "stable_diffusion", "a photo of a red kiln in the rain, (again a photo:1.2) of a red kiln in the rain, and a red kiln", "blurry"),
    ("long_negative", "stable_diffusion", "a red kiln", "in the rain " * 8),
    ("broken", "stable_diffusion", "a red BREAK kiln (in the BREAK rain:0.8)", "blurry BREAK"),
    ("open", "stable_diffusion", "a (red kiln) in) [the (rain", ":) (a:b)"),
    ("weighted", "stable_diffusion_3", "a (red:1.3) kiln", "[blurry]"),
    ("long", "stable_diffusion_3", "a photo of a red kiln in the rain, (again a photo:1.2) of a red kiln in the rain", "(blurry:1.4)"),
]


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    runs, tensors = [], {}
    for run, name, prompt, negative in RUNS:
        pipeline = base(name)
        tokenizer = pipeline.tokenizer
        count = max(len(chunks(text, tokenizer)[0]) for text in [prompt, negative])
        request = dict(num_inference_steps=2, seed=3, guidance_scale=5.0)
        if name == "stable_diffusion_3":
            request["max_sequence_length"] = 20
        with torch.no_grad():
            z, pooled = encode(pipeline, prompt, count)
            unlike, unlike_pooled = encode(pipeline, negative, count)
            told = dict(prompt_embeds=z, negative_prompt_embeds=unlike)
            if pooled is not None:
                told |= dict(pooled_prompt_embeds=pooled, negative_pooled_prompt_embeds=unlike_pooled)
            arguments = dict(request)
            arguments["generator"] = torch.Generator().manual_seed(arguments.pop("seed"))
            image = pipeline(output_type="pt", **arguments, **told).images
        key = f"{name}.{run}"
        print(key, "in", count, "chunks of", ROOM)
        runs.append({"name": key, "pipeline": name, "chunks": count, "request": request | dict(prompt=prompt, negative_prompt=negative)})
        tensors[f"{key}.prompt_embeds"], tensors[f"{key}.image"] = z, image
        if pooled is not None:
            tensors[f"{key}.pooled_prompt_embeds"] = pooled
    (FOLDER / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    save_file({key: value.float().contiguous().clone() for key, value in tensors.items()}, FOLDER / "runs.safetensors")


if __name__ == "__main__":
    main()
