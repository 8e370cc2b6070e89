"""Cases of text encoders: tests/cases/clip_* and t5_*; goldens of encoders and tokenizers in crates/text/tests/golden.

    python tests/reference/text.py

Tiny encoders with random weights, stored in f16 and computed in f32, one for each option that published checkpoints use;
and the numbers that tokenizers give to prompts: CLIP's and T5's own, read from crates/text/assets, and tiny ones in
crates/text/tests/golden/tokenizers. Made with torch 2.15.0 and transformers 5.23.0.
"""

import gzip
import json
import shutil
import tempfile
from pathlib import Path

import torch
from _cases import CASES, randomise, reference, save
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
    TokenizersBackend,
)

TEXT = CASES.parents[1] / "crates/text"
GOLDEN = TEXT / "tests/golden"

# Every width differs from every other, so that none can be mistaken for another.
CLIP = dict(
    vocab_size=30,
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=12,
    projection_dim=10,
    bos_token_id=27,
    eos_token_id=28,
    pad_token_id=0,
)
# A token above the end of text, which must not be taken for it; the end of text again as padding; none at all.
IDS = [[27, 3, 29, 5, 28, 0, 0, 0], [27, 29, 29, 2, 9, 11, 4, 28], [27, 6, 28, 28, 28, 28, 28, 28]]
NO_END = [[27, 3, 4, 5, 6, 0, 0, 0], [1, 2, 3, 4, 5, 6, 28, 7]]

# name: (options, ids)
CLIPS = {
    "clip_padded": (dict(), IDS),
    "clip_gelu": (dict(hidden_act="gelu", layer_norm_eps=1e-3), IDS),
    "clip_one_layer": (dict(num_hidden_layers=1, num_attention_heads=1), IDS),
    "clip_many_heads": (dict(num_attention_heads=8, num_hidden_layers=4), IDS),
    "clip_legacy_end": (dict(eos_token_id=2), IDS),
    "clip_no_end": (dict(), NO_END),
    "clip_full_length": (dict(), [[27, *range(1, 11), 28]]),
}

T5 = dict(
    vocab_size=30,
    d_model=16,
    d_kv=6,
    d_ff=20,
    num_layers=2,
    num_heads=2,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=20,
    feed_forward_proj="gated-gelu",
)
# name: (options, tokens, batch)
T5S = {
    "t5_relu": (dict(feed_forward_proj="relu"), 9, 2),
    "t5_gated_silu": (dict(feed_forward_proj="gated-silu"), 9, 1),
    "t5_gelu": (dict(feed_forward_proj="gelu"), 5, 1),
    "t5_wide": (dict(d_kv=12, num_heads=3, layer_norm_epsilon=1e-3), 7, 2),
    "t5_far": (dict(relative_attention_max_distance=12, relative_attention_num_buckets=14), 60, 1),
    "t5_published_buckets": (dict(relative_attention_max_distance=128, relative_attention_num_buckets=32, num_layers=1), 150, 1),
}


def clip_outputs(model, ids):
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    names = ["last_hidden_state", "pooler_output", "text_embeds"]
    outputs = {name: out[name] for name in names if name in out and out[name] is not None}
    return outputs | {"penultimate_hidden_state": out.hidden_states[-2]}


def clips():
    for seed, (name, (options, ids)) in enumerate(CLIPS.items()):
        torch.manual_seed(seed)
        model = randomise(CLIPTextModel(CLIPTextConfig(**{**CLIP, **options})), seed)
        ids = torch.tensor(ids)
        save(name, model, {"input_ids": ids}, clip_outputs(model, ids))
    torch.manual_seed(50)
    model = randomise(CLIPTextModelWithProjection(CLIPTextConfig(**CLIP | dict(hidden_act="gelu"))), 50)
    ids = torch.tensor(IDS)
    save("clip_projection", model, {"input_ids": ids}, clip_outputs(model, ids))
    # As transformers wrote them before its version 5: with a prefix, and with the positions' numbers.
    torch.manual_seed(51)
    model = randomise(CLIPTextModel(CLIPTextConfig(**CLIP)), 51)
    save("clip_old_names", model, {"input_ids": ids}, clip_outputs(model, ids))
    path = CASES / "clip_old_names/checkpoint/model.safetensors"
    tensors = {f"text_model.{name}": value for name, value in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(12)[None]
    save_file(tensors, path, metadata={"format": "pt"})
    # A whole CLIP model, whose text half is read.
    torch.manual_seed(52)
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=4, patch_size=4)
    text = {**CLIP, "projection_dim": 7}
    model = randomise(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)), 52)
    with torch.no_grad():
        outputs = clip_outputs(model.text_model, ids)
        outputs["text_embeds"] = model.text_projection(outputs["pooler_output"])
    golden("clip_whole", model, {"input_ids": ids}, outputs)


def golden(name, model, inputs, outputs):
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder / "checkpoint")
    reference(folder, inputs, outputs)


def t5_outputs(model, ids, **arguments):
    with torch.no_grad():
        return {"last_hidden_state": model(input_ids=ids, **arguments).last_hidden_state}


def t5s():
    for seed, (name, (options, n, batch)) in enumerate(T5S.items(), start=100):
        torch.manual_seed(seed)
        model = randomise(T5EncoderModel(T5Config(**{**T5, **options})), seed)
        ids = torch.randint(0, 30, (batch, n))
        save(name, model, {"input_ids": ids}, t5_outputs(model, ids))
    ids = torch.randint(0, 30, (2, 9))
    mask = torch.tensor([[1] * 6 + [0] * 3, [1] * 9])
    torch.manual_seed(150)
    model = randomise(T5EncoderModel(T5Config(**T5)), 150)
    save("t5_masked", model, {"input_ids": ids, "attention_mask": mask}, t5_outputs(model, ids, attention_mask=mask))
    save("t5_sharded", model, {"input_ids": ids}, t5_outputs(model, ids), max_shard_size="4KB")
    # The table of tokens by its other name.
    save("t5_embed_tokens", model, {"input_ids": ids}, t5_outputs(model, ids))
    path = CASES / "t5_embed_tokens/checkpoint/model.safetensors"
    tensors = load_file(path)
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    torch.manual_seed(151)
    model = randomise(T5ForConditionalGeneration(T5Config(**{**T5, "num_layers": 1})), 151)
    with torch.no_grad():
        outputs = {"last_hidden_state": model.encoder(input_ids=ids).last_hidden_state}
    golden("t5_with_decoder", model, {"input_ids": ids}, outputs)


PROMPTS = [
    "",
    " ",
    "\t\n ",
    "a",
    "A photo of a lighthouse on a cliff, studio light, high quality",
    "a photo of an astronaut riding a horse on mars",
    "  leading and trailing spaces   ",
    "two  spaces,\tone tab\nand a new line\r\nand another",
    "MIXED Case With ACRONYMS like NASA, McDonald and iPhone",
    "İstanbul ŞĞÜ ß ẞ ǅ Σίσυφος ΑΣ",
    "don't can't I'm you're we'll they've he'd it's O'Neil's 'quoted' 'S 'T DON'T",
    "rock ’n’ roll, it’s “quoted” — and… done",
    "hello!",
    "hello! !! !!! ! wow!",
    "what?! no... yes;: (maybe) [or] {not} <tag> & | ~ ^ ` @ # $ % * + = / \\ _ -",
    "8k uhd, 35mm f/1.8, iso100, 3.14159, 1,000,000, 50% off, $9.99",
    "1234567890",
    "²³¹ ½ ⅷ Ⅻ ٣٤٥ १२३ 一二三",
    "café naïve façade São Tomé Zürich Ångström Þór",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "e\u0301\u0302\u0303 stacked marks, a\u0335b\u0336c",
    "ﬁ ﬂ ligatures, ＦＵＬＬ ｗｉｄｔｈ １２３, ㎏ ㍿ ℃ ™ ©",
    "日本語のプロンプト、富士山と桜",
    "一只猫坐在窗台上，阳光明媚。",
    "고양이가 창가에 앉아 있다",
    "ねこ ネコ ﾈｺ",
    "Кот сидит на окне в Москве",
    "ένας φάρος στην άκρη της θάλασσας",
    "منارة على حافة البحر",
    "מגדלור על שפת הים",
    "ประภาคารริมทะเล",
    "समुद्र के किनारे एक प्रकाशस्तंभ",
    "hải đăng trên vách đá, ánh sáng đẹp",
    "😀",
    "a 🐱 cat and a 🐶 dog 🎉🎉🎉",
    "👨‍👩‍👧‍👦 family, 👍🏽 thumb, 🇫🇷 flag, ❤️ heart, 1️⃣ keycap",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🫠 🪿",
    "zero\u200bwidth\u200djoin\u200cer\ufeff and soft\u00adhyphen",
    "nbsp\u00a0here, thin\u2009space, ideographic\u3000space, line\u2028sep, nel\u0085x",
    "control\x00nul \x01\x07\x1b[31mred\x7f \x1c\x1d\x1e\x1f",
    "vertical\x0btab form\x0cfeed",
    "private \ue000 use, unassigned \u0378, noncharacter \uffff, replacement \ufffd",
    "𝓯𝓪𝓷𝓬𝔂 𝕥𝕖𝕩𝕥 𝔊𝔬𝔱𝔥𝔦𝔠",
    "𐍈 𒀀 𠮷野家",
    "<b>bold</b> &amp; <img src='x.png' alt=\"y\"> &lt;p&gt;",
    "https://example.com/path?query=1&other=two#frag user@example.org",
    "C:\\Users\\me\\pictures\\cat.png",
    "snake_case camelCase kebab-case SCREAMING_SNAKE",
    "(masterpiece:1.3), [ugly], ((best quality)), <lora:style:0.8>",
    "word" * 40,
    "x" * 300,
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    " ".join(f"word{i}" for i in range(60)),
    "the quick brown fox jumps over the lazy dog. " * 12,
    "一" * 90,
    "🎉" * 40,
    ", ".join(["highly detailed", "sharp focus", "concept art", "artstation"] * 8),
    "<|startoftext|>inside<|endoftext|> and after",
    "<|ENDOFTEXT|> <|StartOfText|> < |endoftext| >",
    "x<|endoftext|>y",
    "</s> <pad> <unk> <extra_id_0> <extra_id_99> <extra_id_100> </S>",
    "before</s>after <unk>",
    "▁underscore ▁▁ block",
    "Ġ byte letters Ċ Ã©",
    "</w> cat</w>",
    "a\u0300 \u0300 lone mark",
    "ＡＢＣ ａｂｃ ﷺ ﷽",
    "it's 5 o'clock'd've y'all'll",
    "ſ K Å µ ÿ Ÿ ĳ",
    "no\u2011break\u2010hyphen\u2013en\u2014em\u2212minus",
    ".",
    "...",
    "\n\n\nstart after lines",
    "end before lines\n\n",
    "a  b   c    d",
]


def clip_folder(folder):
    """vocab.json and merges.txt of OpenAI's vocabulary."""
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in letters]
    letters = [chr(c) for c in letters] + [chr(256 + i) for i in range(len(unseen))]
    text = gzip.open(TEXT / "assets/bpe_simple_vocab_16e6.txt.gz").read().decode()
    merges = text.split("\n")[1 : 49152 - 256 - 2 + 1]
    tokens = letters + [c + "</w>" for c in letters] + ["".join(m.split()) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def added(content, **options):
    return dict(content=content, lstrip=False, normalized=True, rstrip=False, single_word=False) | options


START, END = "<|startoftext|>", "<|endoftext|>"
# The small files as they were published with Stable Diffusion 1 and 2, and as transformers wrote them later.
PUBLISHED = {
    "special_tokens_map.json": dict(bos_token=added(START), eos_token=added(END), pad_token=END, unk_token=added(END)),
    "tokenizer_config.json": dict(
        add_prefix_space=False,
        bos_token=added(START) | {"__type": "AddedToken"},
        eos_token=added(END) | {"__type": "AddedToken"},
        unk_token=added(END) | {"__type": "AddedToken"},
        pad_token=END,
        do_lower_case=True,
        errors="replace",
        model_max_length=16,
        tokenizer_class="CLIPTokenizer",
    ),
}
PUBLISHED_2 = {
    "special_tokens_map.json": dict(bos_token=added(START), eos_token=added(END), pad_token="!", unk_token=added(END)),
    "tokenizer_config.json": PUBLISHED["tokenizer_config.json"] | dict(pad_token="<|endoftext|>"),
}
LATER = {
    "tokenizer_config.json": dict(
        added_tokens_decoder={
            "0": added("!", normalized=False, special=True),
            "630": added(START, special=True),
            "631": added(END, normalized=False, special=True),
            "632": added("<lighthouse>", normalized=True, special=False),
        },
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token="!",
        clean_up_tokenization_spaces=True,
        model_max_length=16,
        tokenizer_class="CLIPTokenizer",
    ),
    # Not read where added_tokens_decoder is.
    "special_tokens_map.json": dict(pad_token=END),
}
CONCEPT = {"added_tokens.json": {"<lighthouse>": 632}, "tokenizer_config.json": dict(model_max_length=1e30, truncation_side="left")}
LEFT = {"tokenizer_config.json": dict(padding_side="left", pad_token=END, model_max_length=16)}


def encodings(tokenizer, lengths):
    """Numbers of every prompt at its own length, and at each of `lengths`, padded and cut."""
    rows = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    fixed = {}
    for length in lengths:
        batch = tokenizer(PROMPTS, padding="max_length", max_length=length, truncation=True)
        fixed[str(length)] = dict(ids=batch.input_ids, mask=["".join(map(str, row)) for row in batch.attention_mask])
    return dict(ids=rows, fixed=fixed, pad=tokenizer.pad_token_id, vocabulary=len(tokenizer))


def tokenizers():
    goldens = {"prompts": PROMPTS + ["a <lighthouse> at <LIGHTHOUSE> sea"]}
    PROMPTS.append(goldens["prompts"][-1])
    tiny = GOLDEN / "tokenizers"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip_folder(folder)
        goldens["clip"] = encodings(CLIPTokenizer.from_pretrained(folder), [77])
        goldens["clip_exclamation"] = encodings(CLIPTokenizer.from_pretrained(folder, pad_token="!"), [77])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "tokenizer.json").write_bytes(gzip.open(TEXT / "assets/t5_tokenizer.json.gz").read())
        goldens["t5"] = encodings(T5Tokenizer.from_pretrained(folder), [20])
        # As the file says itself.
        names = dict(eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
        goldens["t5_as_it_says"] = encodings(TokenizersBackend.from_pretrained(folder, **names), [])
    variants = {
        "tiny_clip": ("clip", CLIPTokenizer, {}),
        "tiny_clip_published": ("clip", CLIPTokenizer, PUBLISHED),
        "tiny_clip_published_2": ("clip", CLIPTokenizer, PUBLISHED_2),
        "tiny_clip_later": ("clip", CLIPTokenizer, LATER),
        "tiny_clip_concept": ("clip", CLIPTokenizer, CONCEPT),
        "tiny_clip_left": ("clip", CLIPTokenizer, LEFT),
        "tiny_t5": ("t5", TokenizersBackend, {}),
        "tiny_t5_class": ("t5", T5Tokenizer, {"tokenizer_config.json": dict(tokenizer_class="T5Tokenizer")}),
    }
    for name, (base, kind, files) in variants.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            keep = ["vocab.json", "merges.txt", "tokenizer.json"] + ([] if files else ["tokenizer_config.json", "special_tokens_map.json"])
            for file in keep:
                if (tiny / base / file).exists():
                    shutil.copy(tiny / base / file, folder / file)
            for file, content in files.items():
                (folder / file).write_text(json.dumps(content))
            tokenizer = kind.from_pretrained(folder)
            goldens[name] = encodings(tokenizer, [12]) | dict(base=base, files=files)
            if name == "tiny_clip_published":
                # One file, as transformers 5 writes it.
                tokenizer.save_pretrained(folder / "saved")
                names = ["tokenizer.json", "tokenizer_config.json"]
                saved = {file: json.loads((folder / "saved" / file).read_text()) for file in names}
                goldens["tiny_clip_saved"] = encodings(CLIPTokenizer.from_pretrained(folder / "saved"), [12]) | dict(base=None, files=saved)
    path = GOLDEN / "tokenizers.json"
    path.write_text(json.dumps(goldens, separators=(",", ":"), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    clips()
    t5s()
    tokenizers()
