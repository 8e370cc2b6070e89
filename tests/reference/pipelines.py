"""Tiny pipelines with random weights, and what diffusers draws with them (torch 2.15.0, diffusers 0.42.1, transformers 5.23.0).

    python tests/reference/pipelines.py

writes crates/pipelines/tests/golden/NAME/: a pipeline's folder, and beside its parts

    runs.json           a list: the run's name, its request (Python's arguments), its scheduler's config where it is another one
    runs.safetensors    NAME.input.<argument> and NAME.output.<name>

Runs without `input.latents` are seeded: their noise is a CPU generator's, as is all that the scheduler and the autoencoder draw.
"""

import json
import shutil
from pathlib import Path

import torch
from _cases import randomise
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    MultiControlNetModel,
    PNDMScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.deprecated.score_sde_ve.pipeline_score_sde_ve import ScoreSdeVePipeline
from diffusers.schedulers import ScoreSdeVeScheduler
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel
from transformers import PreTrainedTokenizerFast

# diffusers 0.42 looks for CLIP's final norm where transformers 4 had it.
CLIPTextModel.text_model = property(lambda self: self)

GOLDEN = Path(__file__).resolve().parents[2] / "crates/pipelines/tests/golden"
SD_SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PROMPT = "a photo of a red kiln in the rain"


def clip_tokenizer(folder, length=16):
    """CLIP's kind of tokenizer over single bytes and a few merges."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("k", "i"), ("ki", "l"), ("kil", "n</w>"), ("r", "e"), ("re", "d</w>"), ("i", "n</w>"), ("o", "f</w>"), ("a", "i"), ("ai", "n</w>")]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length), len(tokens)


def t5_tokenizer():
    pieces = ["<pad>", "</s>", "<unk>", "▁"] + list("abcdefghijklmnopqrstuvwxyz") + ["▁a", "▁the", "▁rain", "in", "ed"]
    scores = [(piece, 0.0 if i < 3 else -2.0 - 0.1 * i if i < 30 else -1.0) for i, piece in enumerate(pieces)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512), len(pieces)


def clip(vocabulary, kind=CLIPTextModel, seed=0, width=16, layers=3):
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=12,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return randomise(kind(config), seed)


def autoencoder(channels=4, **options):
    return randomise(
        AutoencoderKL(
            block_out_channels=(4, 8),
            norm_num_groups=2,
            latent_channels=channels,
            layers_per_block=1,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            sample_size=32,
            **options,
        ),
        3,
    )


UNET = dict(
    sample_size=16,
    block_out_channels=(8, 16),
    norm_num_groups=4,
    layers_per_block=1,
    cross_attention_dim=16,
    attention_head_dim=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
)


def unet(channels=4, seed=1, **options):
    up = ("UpBlock2D", "CrossAttnUpBlock2D")
    return randomise(UNet2DConditionModel(in_channels=channels, out_channels=4, up_block_types=up, **UNET, **options), seed)


def controlnet(seed, **options):
    config = {key: value for key, value in UNET.items() if key != "sample_size"}
    return randomise(ControlNetModel(conditioning_embedding_out_channels=(4, 6), **config, **options), seed, 0.1)


def picture(seed, height=32, width=32, channels=3):
    """A smooth picture in 0..1."""
    coarse = torch.rand((1, channels, 5, 5), generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return fine.clamp(0, 1)


def hole(height=32, width=32):
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : 3 * height // 4, width // 3 :] = 1
    return mask


class Runs:
    def __init__(self, name):
        self.folder = GOLDEN / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.list, self.tensors = [], {}

    def add(self, name, pipeline, request, inputs=None, outputs=None, scheduler=None, **python):
        """Run `pipeline` with `request` and `inputs`; `python` holds arguments that have another name there."""
        arguments = dict(request) | {key: value for key, value in (inputs or {}).items()} | python
        if scheduler is not None:
            usual, pipeline.scheduler = pipeline.scheduler, scheduler
        seed = arguments.pop("seed", None)
        if seed is not None:
            arguments["generator"] = torch.Generator().manual_seed(seed)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad():
            found = {"image": pipeline(output_type="pt", **arguments).images}
            if type(found["image"]).__name__ != "Tensor":
                found = {"image": torch.tensor(found["image"]).permute(0, 3, 1, 2)}
        found |= outputs or {}
        entry = {"name": name, "request": request}
        if scheduler is not None:
            entry["scheduler"] = pipeline.scheduler.to_json_string()
            pipeline.scheduler = usual
        self.list.append(entry)
        stored = {}
        for key, value in (inputs or {}).items():
            key = {"control_image": "control_image"}.get(key, key)
            if isinstance(value, list):
                stored |= {f"{name}.input.{key}.{i}": each for i, each in enumerate(value)}
            else:
                stored[f"{name}.input.{key}"] = value
        stored |= {f"{name}.output.{key}": value for key, value in found.items()}
        self.tensors |= {key: value.detach().float().contiguous().clone() for key, value in stored.items()}

    def save(self, pipeline):
        pipeline.to(torch.float16)
        pipeline.save_pretrained(self.folder)
        (self.folder / "runs.json").write_text(json.dumps(self.list, indent=1) + "\n")
        save_file(self.tensors, self.folder / "runs.safetensors")


def parts(folder, **options):
    tokenizer, vocabulary = clip_tokenizer(folder)
    return dict(
        vae=autoencoder(),
        text_encoder=clip(vocabulary),
        tokenizer=tokenizer,
        unet=unet(**options),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **SD_SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def like(kind, pipeline, **more):
    return kind(**{**pipeline.components, **more}, requires_safety_checker=False)


def stable_diffusion(scratch):
    runs = Runs("stable_diffusion")
    base = StableDiffusionPipeline(**parts(scratch / "clip"))
    control = StableDiffusionControlNetPipeline(**base.components, controlnet=MultiControlNetModel([controlnet(5), controlnet(6)]), requires_safety_checker=False)
    silent = dict(controlnet_conditioning_scale=[0.0, 0.0])
    pictures = {"control_image": [picture(1), picture(2)]}

    def add(name, request, inputs=None, **options):
        # The checkpoint has control networks; runs without them are told that they are silent.
        runs.add(name, options.pop("pipeline", base), request, inputs, **options)

    def add_controlled(name, request, inputs=pictures, **options):
        runs.add(name, control, request, inputs=inputs | {}, **options)

    quick = dict(prompt=PROMPT, num_inference_steps=4, seed=3)
    with torch.no_grad():
        embeddings, negative = base.encode_prompt(PROMPT, "cpu", 1, True, "blurry", clip_skip=None)
    latents = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(9))
    add("given_latents", dict(prompt=PROMPT, negative_prompt="blurry", num_inference_steps=3, guidance_scale=5.0), dict(latents=latents), outputs={"prompt_embeds": embeddings})
    add("seeded", quick | dict(guidance_rescale=0.7, height=24, width=40))
    add("unguided", quick | dict(guidance_scale=1.0, negative_prompt="unread"))
    add("clip_skip", quick | dict(clip_skip=1))
    add("batch", quick | dict(prompt=[PROMPT, "in the rain"], negative_prompt=["red", ""], num_images_per_prompt=2, num_inference_steps=2))
    add("eta", quick | dict(eta=0.7))
    add("euler", quick, scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **SD_SCHEDULER))
    add("euler_linspace", quick, scheduler=EulerDiscreteScheduler(**SD_SCHEDULER))
    add("euler_ancestral", quick, scheduler=EulerAncestralDiscreteScheduler(steps_offset=1, **SD_SCHEDULER))
    add("heun", quick, scheduler=HeunDiscreteScheduler(**SD_SCHEDULER))
    add("pndm", quick | dict(num_inference_steps=6), scheduler=PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, **SD_SCHEDULER))
    add("dpm", quick, scheduler=DPMSolverMultistepScheduler(use_karras_sigmas=True, **SD_SCHEDULER))
    add("dpm_sde", quick, scheduler=DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **SD_SCHEDULER))
    add("unipc", quick, scheduler=UniPCMultistepScheduler(**SD_SCHEDULER))
    add("ddpm", quick, scheduler=DDPMScheduler(clip_sample=False, **SD_SCHEDULER))

    to_image = like(StableDiffusionImg2ImgPipeline, base)
    add("image_to_image", quick | dict(num_inference_steps=6, strength=0.55), dict(image=picture(4)), pipeline=to_image)
    add("image_to_image_euler", quick | dict(num_inference_steps=5, strength=1.0, num_images_per_prompt=2), dict(image=picture(4)), pipeline=to_image, scheduler=EulerAncestralDiscreteScheduler(steps_offset=1, **SD_SCHEDULER))
    inpaint = like(StableDiffusionInpaintPipeline, base)
    holed = dict(image=picture(4), mask_image=hole())
    size = dict(height=32, width=32)
    add("inpaint", quick | size | dict(strength=1.0), holed, pipeline=inpaint)
    add("inpaint_half", quick | size | dict(num_inference_steps=6, strength=0.6, eta=1.0), holed, pipeline=inpaint)

    controlled = quick | dict(controlnet_conditioning_scale=[0.9, 0.4])
    for name, request, scheduler in [
        ("control", controlled, None),
        ("control_in_part", controlled | dict(control_guidance_start=[0.0, 0.3], control_guidance_end=[0.6, 1.0]), None),
        ("control_guess", controlled | dict(guess_mode=True), None),
        ("control_in_part_pndm", controlled | dict(control_guidance_end=[0.5, 0.8]), PNDMScheduler(skip_prk_steps=True, steps_offset=1, **SD_SCHEDULER)),
        ("control_in_part_heun", controlled | dict(control_guidance_start=[0.3, 0.0]), HeunDiscreteScheduler(**SD_SCHEDULER)),
    ]:
        runs.add(name, Renamed(control, "control_image", "image"), request, pictures, scheduler=scheduler)
    runs.save(control)


class Renamed:
    """A pipeline one of whose arguments has another name here."""

    def __init__(self, pipeline, ours, theirs):
        object.__setattr__(self, "_all", (pipeline, ours, theirs))

    def __call__(self, **arguments):
        pipeline, ours, theirs = self._all
        arguments[theirs] = arguments.pop(ours)
        return pipeline(**arguments)

    def __getattr__(self, name):
        return getattr(self._all[0], name)

    def __setattr__(self, name, value):
        setattr(self._all[0], name, value)


def inpainting_network(scratch):
    """Stable Diffusion 2's kind, of nine channels, that predicts v and projects tokens by linear layers."""
    runs = Runs("inpainting")
    components = parts(scratch / "clip", channels=9, use_linear_projection=True)
    components["scheduler"] = DDIMScheduler(clip_sample=False, prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, **SD_SCHEDULER)
    pipeline = StableDiffusionInpaintPipeline(**components)
    inputs = dict(image=picture(4, 24, 40), mask_image=hole(24, 40))
    quick = dict(prompt=PROMPT, num_inference_steps=4, seed=5, height=24, width=40)
    runs.add("whole", pipeline, quick | dict(strength=1.0), inputs)
    runs.add("part", pipeline, quick | dict(num_inference_steps=6, strength=0.7), inputs)
    runs.save(pipeline)


def distilled(scratch):
    """A latent consistency model: the scale is told, and the network asked once."""
    runs = Runs("distilled")
    components = parts(scratch / "clip", time_cond_proj_dim=6)
    components["scheduler"] = LCMScheduler(clip_sample=False, set_alpha_to_one=True, steps_offset=1, **SD_SCHEDULER)
    pipeline = StableDiffusionPipeline(**components)
    runs.add("four_steps", pipeline, dict(prompt=PROMPT, num_inference_steps=4, seed=5, guidance_scale=8.0))
    runs.save(pipeline)


def stable_diffusion_3(scratch, name, with_t5, **options):
    runs = Runs(name)
    tokenizer, vocabulary = clip_tokenizer(scratch / "clip")
    t5, pieces = t5_tokenizer()
    config = T5Config(vocab_size=pieces, d_model=40, d_kv=8, d_ff=24, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=40,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        pos_embed_max_size=12,
        **options.pop("transformer", {}),
    )
    # Positions are stored too, and as coarsely.
    table = transformer.pos_embed.pos_embed
    table.copy_(table.half().float())
    base = StableDiffusion3Pipeline(
        transformer=randomise(transformer, 1),
        scheduler=FlowMatchEulerDiscreteScheduler(**options.pop("scheduler", dict(shift=3.0))),
        vae=autoencoder(8, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip(vocabulary, CLIPTextModelWithProjection, 11),
        tokenizer=tokenizer,
        text_encoder_2=clip(vocabulary, CLIPTextModelWithProjection, 12, width=20, layers=2),
        tokenizer_2=tokenizer,
        text_encoder_3=randomise(T5EncoderModel(config), 13) if with_t5 else None,
        tokenizer_3=t5 if with_t5 else None,
    )
    quick = dict(prompt=PROMPT, num_inference_steps=4, seed=3, guidance_scale=5.0, max_sequence_length=20)
    with torch.no_grad():
        states, _, pooled, _ = base.encode_prompt(PROMPT, PROMPT, PROMPT, device="cpu", max_sequence_length=20)
    runs.add("seeded", base, quick | dict(negative_prompt="blurry", height=24, width=40), outputs={"prompt_embeds": states, "pooled_prompt_embeds": pooled})
    if with_t5:
        runs.add("unguided", base, quick | dict(guidance_scale=1.0, num_images_per_prompt=2))
        runs.add("clip_skip", base, quick | dict(clip_skip=1, num_inference_steps=2), scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
        components = {key: value for key, value in base.components.items()}
        to_image = StableDiffusion3Img2ImgPipeline(**components)
        runs.add("image_to_image", to_image, quick | dict(num_inference_steps=6, strength=0.55), dict(image=picture(4)))
        # The inpainting pipeline takes networks of 16 channels for those that are not shown the mask.
    runs.save(base)


def unconditional():
    for name, kind, scheduler in [
        ("ddpm", DDPMPipeline, DDPMScheduler()),
        ("ddim", DDIMPipeline, DDIMScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing")),
    ]:
        runs = Runs(name)
        network = randomise(
            UNet2DModel(
                sample_size=16,
                block_out_channels=(4, 8),
                norm_num_groups=2,
                layers_per_block=1,
                attention_head_dim=4,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            ),
            2,
        )
        pipeline = kind(network, scheduler)
        more = dict(eta=0.5) if name == "ddim" else {}
        runs.add("seeded", Renamed2(pipeline), dict(batch_size=2, num_inference_steps=5, seed=4) | more)
        runs.save(pipeline)


def score_sde_ve():
    """Its pictures are in 0..1 as they are, and its corrections go by the mean of the batch's norms."""
    torch.manual_seed(0)
    runs = Runs("score_sde_ve")
    network = randomise(
        UNet2DModel(
            sample_size=16,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            layers_per_block=1,
            attention_head_dim=4,
            time_embedding_type="fourier",
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
        2,
    )
    # Scores as large as the noise over its level, so that samples end between black and white.
    network.conv_out.weight.data *= 8
    pipeline = ScoreSdeVePipeline(network, ScoreSdeVeScheduler(sigma_max=0.6, sigma_min=0.05))
    quick = dict(batch_size=2, num_inference_steps=6, seed=4)
    runs.add("seeded", Renamed2(pipeline), quick)
    twice = ScoreSdeVeScheduler(sigma_max=0.4, sigma_min=0.02, snr=0.2, correct_steps=2)
    runs.add("two_corrections", Renamed2(pipeline), quick | dict(batch_size=1, seed=5), scheduler=twice)
    runs.save(pipeline)


class Renamed2:
    """Pipelines without tensors as their output."""

    def __init__(self, pipeline):
        object.__setattr__(self, "_pipeline", pipeline)

    def __call__(self, output_type, **arguments):
        return self._pipeline(output_type="np", **arguments)

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def __setattr__(self, name, value):
        setattr(self._pipeline, name, value)


def main():
    import tempfile

    # Biases keep what they are initialised to.
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        stable_diffusion(scratch)
        inpainting_network(scratch)
        distilled(scratch)
        stable_diffusion_3(scratch, "stable_diffusion_3", True)
        stable_diffusion_3(scratch, "stable_diffusion_3_without_t5", False, transformer=dict(qk_norm="rms_norm", dual_attention_layers=(0,)))
        unconditional()
        score_sde_ve()


if __name__ == "__main__":
    main()
