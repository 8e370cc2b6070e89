//! AutoencoderKL for Burn: pictures to latents and back, from diffusers' checkpoints.
